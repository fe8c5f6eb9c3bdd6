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

// hold holds the lease, again when it was lost, until ctx ends.
func (l *doorLease) hold(ctx context.Context, epochs chan<- uint64) error {
	for {
		err := l.state.HoldDoor(ctx, l.bus, primaryName, func(ctx context.Context, epoch uint64, valid func() bool) error {
			l.set(valid)
			defer l.set(nil)
			select {
			case epochs <- epoch: // the first; the door keeps it
			default:
			}
			<-ctx.Done()
			return nil
		})
		if ctx.Err() != nil {
			return nil //nolint:nilerr // told to stop
		}
		l.log.LogAttrs(ctx, slog.LevelWarn, "the lease of the engine door was lost, the consensus client is served on", slog.Any("error", err))
		if !retry.Pause(ctx, leaseRetry) {
			return nil
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
	for retry.Pause(ctx, time.Second) {
		if l.lost() == nil || l.bus.Healthy() != nil {
			healthy = 0
			continue
		}
		if healthy += time.Second; healthy > leaseGiveUp {
			_ = l.holding.stop()
			return errElsewhere
		}
	}
	return l.holding.stop()
}
