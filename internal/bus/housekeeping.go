package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/bus/upkeep"
	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/subjects"
)

const (
	stateHousekeeper    = "housekeeper"
	housekeeperEmbedded = "embedded"
	leaseHousekeeper    = "housekeeper"
	topologyTick        = 5 * time.Second
)

// furnish makes the streams of an embedded server and repairs what a machine's death did to them.
func (b *Bus) furnish(ctx context.Context, control *link) error {
	changes, err := b.Apply(ctx)
	if err != nil {
		return fmt.Errorf("apply topology: %w", err)
	}
	for _, c := range changes {
		b.log.LogAttrs(ctx, slog.LevelInfo, "topology changed", slog.String("kind", c.Kind),
			slog.String("name", c.Name), slog.String("what", c.What))
	}
	// Remote roles must not take over what is done here with more rights.
	if err := b.put(ctx, subjects.BucketState, stateHousekeeper, []byte(housekeeperEmbedded)); err != nil {
		return err
	}
	if err := b.declareTap(ctx); err != nil {
		return err
	}
	if b.cfg.Listen == "" {
		// Every holder lived in the process that owned the store before, and is gone with it.
		if err := emptyLeases(ctx, control.js); err != nil {
			return err
		}
	}
	if !b.server.Unclean() {
		return nil
	}
	streams, err := pathStreams(ctx, control.js)
	if err != nil {
		return fmt.Errorf("burn sequences: %w", err)
	}
	b.log.LogAttrs(ctx, slog.LevelWarn, "machine died: burning sequences", slog.Int("count", upkeep.BurnCount))
	if err := upkeep.Burn(ctx, control.js, streams, upkeep.BurnCount); err != nil {
		return fmt.Errorf("burn sequences: %w", err)
	}
	return b.server.Settled()
}

// pathStreams are the streams between the stages, as far as there are any: a process that has none of its own may have
// been given the store of one that has.
func pathStreams(ctx context.Context, js jetstream.JetStream) (names []string, err error) {
	for _, p := range order.Priorities {
		for _, name := range []string{subjects.StreamIn(p), subjects.StreamOK(p)} {
			switch _, err := js.Stream(ctx, name); {
			case err == nil:
				names = append(names, name)
			case !errors.Is(err, jetstream.ErrStreamNotFound):
				return nil, err
			}
		}
	}
	return names, nil
}

func emptyLeases(ctx context.Context, js jetstream.JetStream) error {
	s, err := js.Stream(ctx, "KV_"+subjects.BucketLeases)
	if err == nil {
		err = s.Purge(ctx)
	}
	if err != nil {
		return fmt.Errorf("empty leases: %w", err)
	}
	return nil
}

// guardStore runs the disk guard. When the store has failed nothing can be stored or acknowledged
// any more, so nobody is left to wait for it.
func (b *Bus) guardStore(ctx context.Context) error {
	err := b.guard.Run(ctx)
	if errors.Is(err, upkeep.ErrStoreFailed) {
		b.log.LogAttrs(ctx, slog.LevelError, "the store has failed: orders that were accepted are delivered after a restart with space", slog.Any("error", err))
		b.links.cut()
	}
	return err
}

// keepHouse purges while this process holds the lease, if it may. Beside an embedded server nobody else does.
func (b *Bus) keepHouse(ctx context.Context) error {
	for n := 0; ctx.Err() == nil && (b.server != nil || b.cfg.keepsHouse()); n++ {
		if b.server == nil && b.housekeptElsewhere(ctx) {
			retry.Pause(ctx, topologyTick)
			continue
		}
		err := b.Hold(ctx, leaseHousekeeper, func(ctx context.Context, _ func() bool) error { return b.purge.Run(ctx) })
		if err != nil && ctx.Err() == nil {
			b.log.LogAttrs(ctx, slog.LevelWarn, "housekeeping interrupted", slog.Any("error", err))
		}
		retry.Pause(ctx, retry.Backoff(n, 100*time.Millisecond, topologyTick))
	}
	return nil
}

// housekeptElsewhere reports whether a process with an embedded server looks after this bus.
func (b *Bus) housekeptElsewhere(ctx context.Context) bool {
	kv, err := b.bucket(ctx, subjects.BucketState)
	if err != nil {
		return true // no buckets, no streams: nothing to keep
	}
	e, err := kv.Get(ctx, stateHousekeeper)
	return err == nil && string(e.Value()) == housekeeperEmbedded
}

// watchTopology notices streams that are missing, or were made after this process started.
func (b *Bus) watchTopology(ctx context.Context) error {
	for retry.Pause(ctx, topologyTick) {
		b.checkTopology(ctx)
	}
	return nil
}

func (b *Bus) checkTopology(ctx context.Context) {
	changes, err := b.Plan(ctx)
	var lack *string
	switch {
	case err != nil:
		text := err.Error()
		lack = &text
	default:
		for _, c := range changes {
			if c.What == WhatCreate {
				text := c.Kind + " " + c.Name + " is missing: run `millrace streams apply`"
				lack = &text
				break
			}
		}
	}
	if was := b.missing.Swap(lack); lack != nil && was == nil && ctx.Err() == nil {
		b.log.LogAttrs(ctx, slog.LevelWarn, "bus topology is not ready", slog.String("reason", *lack))
	}
}

func (b *Bus) watchDoor(ctx context.Context) error {
	b.watch(ctx, subjects.BucketState, upkeep.DoorKey, func(e jetstream.KeyValueEntry) {
		if reason, closed := upkeep.ParseDoor(e.Value()); closed {
			b.door.Store(&reason)
			return
		}
		b.door.Store(nil)
	})
	return nil
}
