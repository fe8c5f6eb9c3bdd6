package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"millrace/internal/bus"
	"millrace/internal/bus/enginelog"
	"millrace/internal/retry"
	"millrace/subjects"
)

const (
	// leaseRetry is the pause between two attempts to get the lease back, leaseGiveUp how long another
	// process may have it, on a healthy bus, until this one leaves the field.
	leaseRetry  = 250 * time.Millisecond
	leaseGiveUp = 15 * time.Second
)

// errElsewhere ends a process whose door is another's now.
var errElsewhere = errors.New("another process has the lease of the door to this primary")

// doorLease makes this process the only one that stands in front of the primary and replays to its
// clients (CORRECTNESS 22). Without the lease no replayed call is sent. The consensus client is served all
// the same: its calls don't depend on the bus, and nobody else can get the lease while the bus is away.
// An embedded server is this process's alone, and needs none.
type doorLease struct {
	bus    *bus.Bus
	state  *enginelog.State
	log    *slog.Logger
	needed bool

	mu      sync.Mutex
	check   func() bool // nil: not held
	without time.Time   // since when
	holding *early
}

func newDoorLease(b *bus.Bus, s *enginelog.State, log *slog.Logger, needed bool) *doorLease {
	return &doorLease{bus: b, state: s, log: log, needed: needed}
}

// acquire waits for the lease and is the epoch of this process's door.
func (l *doorLease) acquire(ctx context.Context) (uint64, error) {
	if !l.needed {
		l.check = func() bool { return true }
		return l.state.ClaimEpoch(ctx)
	}
	epochs := make(chan uint64, 1)
	l.holding = startEarly(ctx, func(ctx context.Context) error { return l.hold(ctx, epochs) })
	select {
	case epoch := <-epochs:
		return epoch, nil
	case <-l.holding.done:
		return 0, l.holding.err
	case <-ctx.Done():
		_ = l.holding.stop()
		return 0, ctx.Err()
	}
}

// hold holds the lease, again when it was lost, until ctx ends or another door was there meanwhile.
func (l *doorLease) hold(ctx context.Context, epochs chan<- uint64) error {
	var mine uint64 // the door's, which it keeps
	while := func(ctx context.Context, valid func() bool) {
		l.set(valid)
		defer l.set(nil)
		<-ctx.Done()
	}
	for {
		var err error
		if mine == 0 {
			err = l.state.HoldDoor(ctx, l.bus, primaryName, func(ctx context.Context, epoch uint64, valid func() bool) error {
				mine = epoch
				epochs <- epoch
				while(ctx, valid)
				return nil
			})
		} else {
			err = l.bus.Hold(ctx, subjects.EngineDoorLease(primaryName), func(ctx context.Context, valid func() bool) error {
				if err := l.unbroken(ctx, mine); err != nil {
					return err
				}
				while(ctx, valid)
				return nil
			})
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // told to stop
		}
		if errors.Is(err, errElsewhere) {
			return errElsewhere
		}
		l.log.LogAttrs(ctx, slog.LevelWarn, "the lease of the engine door was lost, the consensus client is served on", slog.Any("error", err))
		if !retry.Pause(ctx, leaseRetry) {
			return nil
		}
	}
}

// unbroken is errElsewhere when another door claimed a later epoch than mine: what this one records
// would come before it. It waits for the answer, for as long as ctx and so the lease lasts.
func (l *doorLease) unbroken(ctx context.Context, mine uint64) error {
	for {
		kept, err := l.state.KeepEpoch(ctx, mine)
		switch {
		case err == nil && kept:
			return nil
		case err == nil:
			return errElsewhere
		case !retry.Pause(ctx, leaseRetry):
			return err
		}
	}
}

func (l *doorLease) set(valid func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.check = valid
	l.without = time.Now()
}

// valid says whether replayed calls may be sent; it is to be asked before each.
func (l *doorLease) valid() bool {
	l.mu.Lock()
	check := l.check
	l.mu.Unlock()
	return check != nil && check()
}

// lost is why the process is not ready.
func (l *doorLease) lost() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.check != nil {
		return nil
	}
	return fmt.Errorf("%w or the bus is away, since %s", errElsewhere, l.without.UTC().Format(time.RFC3339))
}

// Run ends with an error when the lease is another's for good.
func (l *doorLease) Run(ctx context.Context) error {
	if !l.needed {
		<-ctx.Done()
		return nil
	}
	var healthy time.Duration // without the lease, on a healthy bus
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return l.holding.stop()
		case <-l.holding.done:
			return l.holding.err
		case <-tick.C:
		}
		if l.lost() == nil || l.bus.Healthy() != nil {
			healthy = 0
			continue
		}
		if healthy += time.Second; healthy > leaseGiveUp {
			_ = l.holding.stop()
			return errElsewhere
		}
	}
}
