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

// The free space, in percent of the volume, at which Guard acts. Between the two of a pair nothing
// changes, so it does not flap.
const (
	recordStopAt  = 20
	recordStartAt = 25 // above
	doorCloseAt   = 10
	doorOpenAt    = 12 // above
)

// countedVolume is the most of a volume that the shares are of. A tenth of it, 8 GiB, holds all that the
// streams of the path and the ledger may still take by their default caps once the door is closed, and as
// much again is between that and where RECORD stops: the free tenth of a volume of terabytes is no shortage.
const countedVolume = 80 << 30

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

// Guard watches the store's volume. With 20 % of it free, RECORD stops (its sources are removed), above
// 25 % it goes on. With 10 % free the door closes (see DoorKey), so that acknowledgements and ledger
// records of what was accepted can still be written; above 12 % it opens again. Of a volume above
// 80 GiB, these are shares of 80 GiB. Whoever fills the volume.
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
	r := roomOf(used, total)
	return errors.Join(g.watchDoor(ctx, r), g.watchRecord(ctx, r))
}

// room is what is left of a volume.
type room struct {
	free uint64
	// share is free in percent of what Guard counts of the volume.
	share float64
	// full is how much of the whole volume is used, in percent.
	full float64
}

func roomOf(used, total uint64) room {
	free := total - min(used, total)
	return room{
		free:  free,
		share: float64(free) / float64(min(total, countedVolume)) * 100,
		full:  float64(used) / float64(total) * 100,
	}
}

func (r room) String() string {
	return fmt.Sprintf("store volume is %.0f %% full, %d MiB free", r.full, r.free>>20)
}

func (r room) attrs() []slog.Attr {
	return []slog.Attr{slog.Float64("percent", r.full), slog.Uint64("free_bytes", r.free)}
}

func (g *Guard) watchDoor(ctx context.Context, r room) error {
	want := g.door
	switch {
	case r.share <= doorCloseAt:
		want = doorClosed
	case r.share > doorOpenAt, g.door == doorUnknown:
		want = doorOpen
	}
	if want == g.door {
		return nil
	}
	reason := ""
	if want == doorClosed {
		reason = r.String()
	}
	kv, err := g.js.KeyValue(ctx, subjects.BucketState)
	if err != nil {
		return fmt.Errorf("write door state: %w", err)
	}
	if _, err := kv.Put(ctx, DoorKey, DoorValue(reason)); err != nil {
		return fmt.Errorf("write door state: %w", err)
	}
	g.noteDoor(ctx, want, r)
	return nil
}

func (g *Guard) noteDoor(ctx context.Context, now doorState, r room) {
	before := g.door
	g.door = now
	switch {
	case now == doorClosed:
		g.metrics.doorClosed.Set(1)
		g.log.LogAttrs(ctx, slog.LevelError, "door closed, volume is nearly full", r.attrs()...)
	case before == doorClosed:
		g.metrics.doorClosed.Set(0)
		g.log.LogAttrs(ctx, slog.LevelInfo, "door open again", r.attrs()...)
	}
}

func (g *Guard) watchRecord(ctx context.Context, r room) error {
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
	case r.share <= recordStopAt && !paused:
		return g.pauseRecord(ctx, r)
	case r.share > recordStartAt && paused:
		return g.resumeRecord(ctx, r)
	}
	return nil
}

func (g *Guard) pauseRecord(ctx context.Context, r room) error {
	cfg := *g.record
	cfg.Sources = nil
	if _, err := g.js.UpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("pause %s: %w", cfg.Name, err)
	}
	g.paused.Store(true)
	g.metrics.recordStop.Set(1)
	g.log.LogAttrs(ctx, slog.LevelWarn, "recording paused, volume is filling", r.attrs()...)
	return nil
}

func (g *Guard) resumeRecord(ctx context.Context, r room) error {
	if _, err := g.js.UpdateStream(ctx, *g.record); err != nil {
		return fmt.Errorf("resume %s: %w", g.record.Name, err)
	}
	g.paused.Store(false)
	g.metrics.recordStop.Set(0)
	g.log.LogAttrs(ctx, slog.LevelInfo, "recording again", r.attrs()...)
	return nil
}
