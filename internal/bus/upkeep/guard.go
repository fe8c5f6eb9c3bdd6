package upkeep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"millrace/subjects"
)

// The shares of the volume, in percent, at which Guard acts. Between the two of a pair nothing
// changes, so it does not flap.
const (
	recordStopAt  = 80
	recordStartAt = 75 // below
	doorCloseAt   = 90
	doorOpenAt    = 88 // below
)

const (
	guardEvery   = 500 * time.Millisecond
	guardTimeout = 3 * time.Second
)

// Store is what Guard watches: *embedded.Server.
type Store interface {
	// Volume returns how many bytes of the volume are not available to us, and its size.
	Volume() (used, total uint64, err error)
	// Health returns an error that is ErrStoreFailed when a stream is frozen until a restart.
	Health() error
}

// Guard watches the store's volume. At 80 % RECORD stops (its sources are removed), below 75 % it
// goes on. At 90 % the door closes (see DoorKey), so that acknowledgements and ledger records of
// what was accepted can still be written; below 88 % it opens again. Whoever fills the volume.
type Guard struct {
	js      jetstream.JetStream
	store   Store
	record  *jetstream.StreamConfig
	log     *slog.Logger
	metrics *guardMetrics
	paused  atomic.Bool
	door    doorState // of Run's goroutine
	seen    bool      // whether RECORD's state was read from the server
}

// doorState is what Guard last wrote under DoorKey.
type doorState uint8

const (
	doorUnknown doorState = iota
	doorOpen
	doorClosed
)

// NewGuard returns a Guard. record is RECORD as it is declared, with its sources; nil when there is
// none. reg gets the millrace_bus_volume_… series, door_closed and record_paused.
func NewGuard(js jetstream.JetStream, store Store, record *jetstream.StreamConfig, log *slog.Logger, reg prometheus.Registerer) *Guard {
	return &Guard{js: js, store: store, record: record, log: log, metrics: newGuardMetrics(reg)}
}

// RecordPaused reports whether RECORD has no sources because the volume is short. It is safe for
// concurrent use.
func (g *Guard) RecordPaused() bool { return g.paused.Load() }

// Run looks twice a second until ctx ends, or until the store has failed, with ErrStoreFailed: a
// stream that met a full disk stays frozen until the server is started again, so waiting for space
// would not help.
func (g *Guard) Run(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	r := rounds{name: "disk guard", log: g.log}
	err := r.every(ctx, guardEvery, func(ctx context.Context) error {
		err := g.Look(ctx)
		if errors.Is(err, ErrStoreFailed) {
			fail(err)
		}
		return err
	})
	if cause := context.Cause(ctx); errors.Is(cause, ErrStoreFailed) {
		return cause
	}
	return err
}

// Look does one round. It must not run beside itself.
func (g *Guard) Look(ctx context.Context) error {
	if err := g.store.Health(); errors.Is(err, ErrStoreFailed) {
		return err
	}
	used, total, err := g.store.Volume()
	if err != nil {
		return err
	}
	if total == 0 {
		return nil
	}
	g.metrics.used.Set(float64(used))
	g.metrics.total.Set(float64(total))
	ctx, cancel := context.WithTimeout(ctx, guardTimeout)
	defer cancel()
	percent := float64(used) / float64(total) * 100
	return errors.Join(g.watchDoor(ctx, percent), g.watchRecord(ctx, percent))
}

func (g *Guard) watchDoor(ctx context.Context, percent float64) error {
	want := g.door
	switch {
	case percent >= doorCloseAt:
		want = doorClosed
	case percent < doorOpenAt, g.door == doorUnknown:
		want = doorOpen
	}
	if want == g.door {
		return nil
	}
	reason := ""
	if want == doorClosed {
		reason = fmt.Sprintf("store volume is %.0f %% full", percent)
	}
	kv, err := g.js.KeyValue(ctx, subjects.BucketState)
	if err != nil {
		return fmt.Errorf("write door state: %w", err)
	}
	if _, err := kv.Put(ctx, DoorKey, DoorValue(reason)); err != nil {
		return fmt.Errorf("write door state: %w", err)
	}
	g.noteDoor(ctx, want, percent)
	return nil
}

func (g *Guard) noteDoor(ctx context.Context, now doorState, percent float64) {
	before := g.door
	g.door = now
	switch {
	case now == doorClosed:
		g.metrics.doorClosed.Set(1)
		g.log.LogAttrs(ctx, slog.LevelError, "door closed, volume is nearly full", slog.Float64("percent", percent))
	case before == doorClosed:
		g.metrics.doorClosed.Set(0)
		g.log.LogAttrs(ctx, slog.LevelInfo, "door open again", slog.Float64("percent", percent))
	}
}

func (g *Guard) watchRecord(ctx context.Context, percent float64) error {
	if g.record == nil {
		return nil
	}
	if !g.seen {
		stream, err := g.js.Stream(ctx, g.record.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("find %s: %w", g.record.Name, err)
		}
		g.paused.Store(len(stream.CachedInfo().Config.Sources) == 0)
		g.seen = true
	}
	switch paused := g.paused.Load(); {
	case percent >= recordStopAt && !paused:
		return g.pauseRecord(ctx, percent)
	case percent < recordStartAt && paused:
		return g.resumeRecord(ctx, percent)
	}
	return nil
}

func (g *Guard) pauseRecord(ctx context.Context, percent float64) error {
	cfg := *g.record
	cfg.Sources = nil
	if _, err := g.js.UpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("pause %s: %w", cfg.Name, err)
	}
	g.paused.Store(true)
	g.metrics.recordStop.Set(1)
	g.log.LogAttrs(ctx, slog.LevelWarn, "recording paused, volume is filling", slog.Float64("percent", percent))
	return nil
}

func (g *Guard) resumeRecord(ctx context.Context, percent float64) error {
	if _, err := g.js.UpdateStream(ctx, *g.record); err != nil {
		return fmt.Errorf("resume %s: %w", g.record.Name, err)
	}
	g.paused.Store(false)
	g.metrics.recordStop.Set(0)
	g.log.LogAttrs(ctx, slog.LevelInfo, "recording again", slog.Float64("percent", percent))
	return nil
}
