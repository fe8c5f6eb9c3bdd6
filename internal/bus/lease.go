package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/subjects"
)

const (
	// leaseTTL is how long a lease holds without renewal; leaseRenew how often it is renewed;
	// leasePoll how often one who waits looks.
	leaseTTL   = 3 * time.Second
	leaseRenew = time.Second
	leasePoll  = 500 * time.Millisecond
	leaseTry   = time.Second
)

// Hold waits for the named lease, runs f while this process holds it and releases it when f
// returns. The context of f ends when the lease is lost; valid says whether it still holds and is
// to be asked immediately before each effect, because a process can sleep through its lease. Hold
// returns f's error, or one wrapping order.ErrFenced when the lease was lost: call it again to wait.
//
// No clocks are compared between machines: the holder counts from before its renewal was sent, on
// its own clocks, and whoever waits counts from when it saw the last renewal, on its own.
func (b *Bus) Hold(ctx context.Context, name string, f func(ctx context.Context, valid func() bool) error) error {
	l := &lease{bus: b, name: name, holding: nuid.Next()}
	if err := l.acquire(ctx); err != nil {
		return err
	}
	b.m.leaseHeld.WithLabelValues(name).Set(1)
	defer b.m.leaseHeld.DeleteLabelValues(name)
	b.log.LogAttrs(ctx, slog.LevelInfo, "lease acquired", slog.String("lease", name))

	held, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx)) // f may take a while to end
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		if err := l.renew(renewing); err != nil {
			lose(err)
		}
	}()
	err := f(held, l.valid)
	stop()
	<-renewed
	lost := context.Cause(held)
	l.release(ctx)
	if ctx.Err() == nil && errors.Is(lost, order.ErrFenced) {
		b.m.leaseLost.Inc()
		b.log.LogAttrs(ctx, slog.LevelWarn, "lease lost", slog.String("lease", name), slog.Any("error", lost))
		return errors.Join(lost, err)
	}
	return err
}

// lease is one holding of one name. acquire, renew and release are called one after another.
type lease struct {
	bus      *Bus
	name     string
	holding  string // unique, so that two holders of one process are told apart
	revision uint64
	count    uint64
	deadline atomic.Pointer[time.Time] // nil: not held
}

// valid compares on the monotonic clock and on the wall clock: the one stands still while a
// machine is suspended, the other may be set back.
func (l *lease) valid() bool {
	d := l.deadline.Load()
	if d == nil {
		return false
	}
	now := time.Now()
	return now.Before(*d) && now.Round(0).Before(d.Round(0))
}

// value names the holding, so that a write whose answer was lost is recognised, and counts renewals.
func (l *lease) value() []byte {
	return []byte(l.holding + " " + strconv.FormatUint(l.count, 10))
}

// acquire waits until nobody else holds the lease.
func (l *lease) acquire(ctx context.Context) error {
	var seen uint64     // the revision last seen of another holder
	var since time.Time // when it was seen first
	for n := 0; ; n++ {
		kv, err := l.bus.bucket(ctx, subjects.BucketLeases)
		if err == nil {
			var e jetstream.KeyValueEntry
			e, err = kv.Get(ctx, l.name)
			switch {
			case errors.Is(err, jetstream.ErrKeyNotFound):
				if err = l.write(ctx, kv, 0); err == nil {
					return nil
				}
			case err != nil:
			case e.Revision() != seen && len(e.Value()) > 0:
				seen, since = e.Revision(), time.Now()
			case len(e.Value()) == 0 || time.Since(since) > leaseTTL:
				if err = l.write(ctx, kv, e.Revision()); err == nil {
					return nil
				}
			}
		}
		if err != nil && ctx.Err() == nil && judge(err) != fateRefused && n%20 == 0 {
			l.bus.log.LogAttrs(ctx, slog.LevelWarn, "lease can't be asked for", slog.String("lease", l.name), slog.Any("error", err))
		}
		if !retry.Pause(ctx, leasePoll/2+retry.Backoff(0, leasePoll/2, leasePoll/2)) {
			return fmt.Errorf("wait for lease %s: %w", l.name, context.Cause(ctx))
		}
	}
}

// write takes or renews the lease if the key is still at the given revision.
func (l *lease) write(ctx context.Context, kv jetstream.KeyValue, revision uint64) error {
	l.count++
	ctx, cancel := context.WithTimeout(ctx, leaseTry)
	defer cancel()
	deadline := time.Now().Add(leaseTTL) // from before the request is sent
	var next uint64
	var err error
	if revision == 0 {
		next, err = kv.Create(ctx, l.name, l.value())
	} else {
		next, err = kv.Update(ctx, l.name, l.value(), revision)
	}
	if err != nil {
		return err
	}
	l.revision = next
	l.deadline.Store(&deadline)
	return nil
}

// renew keeps the lease until ctx ends; an error means that it is lost.
func (l *lease) renew(ctx context.Context) error {
	wait := leaseRenew - leaseRenew/10 + retry.Backoff(0, leaseRenew/10, leaseRenew/10)
	for retry.Pause(ctx, wait) {
		wait = leaseRenew - leaseRenew/10 + retry.Backoff(0, leaseRenew/10, leaseRenew/10)
		kv, err := l.bus.bucket(ctx, subjects.BucketLeases)
		if err != nil {
			return err
		}
		err = l.write(ctx, kv, l.revision)
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // released, not lost
		}
		if !l.valid() {
			l.deadline.Store(nil)
			return fmt.Errorf("renew lease %s: %w: %w", l.name, order.ErrFenced, err)
		}
		if judge(err) == fateRefused && !l.adopt(ctx, kv) {
			l.deadline.Store(nil)
			return fmt.Errorf("renew lease %s: %w", l.name, order.ErrFenced)
		}
		wait = leaseRenew / 10
	}
	return nil
}

// adopt looks whether the write that is in the way is one of this holding, whose answer was lost.
// The deadline is not moved: when that write was sent is known, when it arrived is not.
func (l *lease) adopt(ctx context.Context, kv jetstream.KeyValue) bool {
	e, err := kv.Get(ctx, l.name)
	if err != nil {
		return l.valid() // not known to be lost: the next renewal tells, or the deadline
	}
	if owner, _, _ := bytes.Cut(e.Value(), []byte(" ")); string(owner) != l.holding {
		return false
	}
	l.revision = e.Revision()
	return true
}

// release frees the lease for whoever waits; failing that it runs out by itself.
func (l *lease) release(ctx context.Context) {
	held := l.deadline.Swap(nil) != nil
	if !held {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTry)
	defer cancel()
	kv, err := l.bus.bucket(ctx, subjects.BucketLeases)
	if err == nil {
		_, err = kv.Update(ctx, l.name, nil, l.revision)
	}
	if err != nil {
		l.bus.log.LogAttrs(ctx, slog.LevelInfo, "lease runs out by itself", slog.String("lease", l.name), slog.Any("error", err))
	}
}
