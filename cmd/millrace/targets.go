package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"millrace/egress"
	"millrace/internal/bus"
	"millrace/internal/order"
	"millrace/internal/retry"
)

const (
	// targetsEvery is how often the streams are searched for targets that nobody serves.
	targetsEvery = 10 * time.Second
	// leaseWait is how long a removal waits for the target's lease: that of a dead owner runs out in
	// half of it.
	leaseWait = 6 * time.Second
	// removeWithin bounds one removal; what it recorded stays, and the next one goes on.
	removeWithin = 2 * time.Minute
)

var (
	errNoTarget     = errors.New("no such target in the streams")
	errTargetServed = errors.New("a process serves the target: take it out of that one's configuration and reload it")
	errRemoving     = errors.New("another removal is under way")
	errUnfinished   = errors.New("not finished yet, ask again")
)

// targets looks after the targets in the streams, which outlive the configuration that they came
// from: a file that lacks a builder may be a mistake, so it deletes nothing (CORRECTNESS 17).
type targets struct {
	bus    *bus.Bus
	policy egress.Config
	log    *slog.Logger

	// configured are this process's own; nil: it does not deliver.
	configured func() []egress.Destination
	unserved   prometheus.Gauge
	named      []string // those warned of

	removing sync.Mutex
	alive    context.Context //nolint:containedctx // removals must not outlive the bus
	end      context.CancelFunc
}

func newTargets(p *process) *targets {
	t := &targets{bus: p.bus, policy: p.cfg.Egress, log: p.part("targets")}
	t.alive, t.end = context.WithCancel(context.Background())
	if p.roles.has(roleEgress) {
		t.configured = p.delivery.serves
		t.unserved = promauto.With(p.reg).NewGauge(prometheus.GaugeOpts{
			Name: "millrace_egress_unserved_targets",
			Help: "Targets in the streams that are not configured here and that nobody serves; what they are owed is never purged.",
		})
	}
	return t
}

// Run watches until ctx ends, and breaks off a removal then.
func (t *targets) Run(ctx context.Context) error {
	defer func() {
		t.end()
		t.removing.Lock() // not released: there is no removal after this
	}()
	if t.configured == nil {
		<-ctx.Done()
		return nil
	}
	return t.watch(ctx)
}

// watch warns of targets that nobody serves, until ctx ends.
func (t *targets) watch(ctx context.Context) error {
	for {
		look, cancel := context.WithTimeout(ctx, targetsEvery)
		err := t.look(look)
		cancel()
		if err != nil && ctx.Err() == nil {
			t.log.LogAttrs(ctx, slog.LevelDebug, "targets can't be listed", slog.Any("error", err))
		}
		if !retry.Pause(ctx, targetsEvery) {
			return nil
		}
	}
}

func (t *targets) look(ctx context.Context) error {
	all, err := t.bus.Targets(ctx)
	if err != nil {
		return err
	}
	mine, n := t.configured(), 0
	for _, s := range all {
		is := func(d egress.Destination) bool { return d.Name == s.Name && d.Fingerprint == s.Fingerprint }
		if served(s) || slices.ContainsFunc(mine, is) {
			continue
		}
		n++
		if !slices.Contains(t.named, s.Name) {
			t.named = append(t.named, s.Name)
			t.log.LogAttrs(ctx, slog.LevelWarn, "nobody serves a target that the streams hold orders for: configure it, or run `millrace targets remove`",
				slog.String("target", s.Name), slog.Uint64("pending", s.Pending), slog.Int("ack_pending", s.AckPending))
		}
	}
	t.unserved.Set(float64(n))
	return nil
}

// served reports whether a process delivers to the target.
func served(s bus.TargetState) bool { return s.Held || s.Pulls > 0 }

// remove records what an unserved target is owed as target_removed and deletes its consumers, the
// way the delivery does it with a target that a reload took out.
func (t *targets) remove(ctx context.Context, name string) error {
	if !t.removing.TryLock() {
		return errRemoving
	}
	defer t.removing.Unlock()
	all, err := t.bus.Targets(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(s bus.TargetState) bool { return s.Name == name })
	switch {
	case i < 0:
		return fmt.Errorf("%w: %s", errNoTarget, name)
	case served(all[i]):
		return fmt.Errorf("%w: %s", errTargetServed, name)
	}
	t.log.LogAttrs(ctx, slog.LevelInfo, "removing target", slog.String("target", name),
		slog.Uint64("pending", all[i].Pending), slog.Int("ack_pending", all[i].AckPending))
	r := &removal{opened: make(chan error, 1), gone: make(chan error, 1)}
	return r.run(ctx, t, all[i])
}

// removal is a delivery to one target for as long as it takes to remove it.
type removal struct{ opened, gone chan error } // of size one, the last result

func (r *removal) run(ctx context.Context, t *targets, s bus.TargetState) error {
	d, err := egress.New(t.policy, egress.Ports{
		Clock: t.bus, Lease: t.bus,
		Feed: func(target, fingerprint string, scope order.Scope) egress.Feed {
			return &removalFeed{Feed: t.bus.Feed(target, fingerprint, scope), removal: r}
		},
		Log: func(target string) egress.Log { return t.bus.Done(target) },
	}, []egress.Destination{{Name: s.Name, Fingerprint: s.Fingerprint, Scope: s.Scope, Sender: nobody{"the target is being removed"}}},
		t.log, prometheus.NewRegistry())
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeoutCause(ctx, removeWithin, errUnfinished)
	defer context.AfterFunc(t.alive, stop)() //nolint:contextcheck // two ends: the bound above and the process
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	defer func() {
		stop()
		<-ended
	}()
	patience := time.NewTimer(leaseWait)
	defer patience.Stop()
	select {
	case err := <-r.opened:
		if err != nil {
			return err
		}
	case <-patience.C: // the lease is another's
		return fmt.Errorf("%w: %s", errTargetServed, s.Name)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := d.Reload(nil); err != nil {
		return err
	}
	select {
	case err := <-r.gone:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// removalFeed tells how far a removal is.
type removalFeed struct {
	*bus.Feed
	removal *removal
}

// Open is the bus's.
func (f *removalFeed) Open(ctx context.Context) error {
	return tell(f.removal.opened, f.Feed.Open(ctx))
}

// Remove is the bus's.
func (f *removalFeed) Remove(ctx context.Context) error {
	return tell(f.removal.gone, f.Feed.Remove(ctx))
}

// tell passes the first result on.
func tell(c chan<- error, err error) error {
	select {
	case c <- err:
	default:
	}
	return err
}
