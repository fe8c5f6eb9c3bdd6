package egress

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"millrace/internal/order"
)

// operatorPause is how often something is tried that only an operator can mend.
const operatorPause = 15 * time.Second

// target is one destination and the loop that serves it whenever this process owns it.
type target struct {
	name        string
	fingerprint string
	scope       order.Scope
	cfg         Config
	ports       Ports
	log         *slog.Logger
	metrics     *targetMetrics

	to      atomic.Pointer[Sender]
	down    atomic.Bool
	removed chan struct{} // closed by remove

	mu      sync.Mutex
	serving bool               // f of the lease runs
	giveUp  context.CancelFunc // ends waiting for the lease
	gone    bool
}

func newTarget(d *Dispatcher, to Destination) *target {
	t := &target{
		name: to.Name, fingerprint: to.Fingerprint, scope: cmp.Or(to.Scope, order.ScopeAll), cfg: d.cfg, ports: d.ports, log: d.log,
		metrics: d.metrics.of(to.Name), removed: make(chan struct{}),
	}
	t.to.Store(&to.Sender)
	t.metrics.setUp()
	t.metrics.owned.Set(0)
	return t
}

func (t *target) sender() Sender { return *t.to.Load() }

// is reports whether a destination is this target, perhaps with another sender.
func (t *target) is(to Destination) bool {
	return to.Fingerprint == t.fingerprint && cmp.Or(to.Scope, order.ScopeAll) == t.scope
}

// run serves the target whenever the lease is ours, until ctx ends or the target is removed. What
// goes wrong on the way is no reason to stop: the state is rebuilt from the store.
func (t *target) run(ctx context.Context) {
	waiting, giveUp := context.WithCancel(ctx)
	defer giveUp()
	t.mu.Lock()
	t.giveUp = giveUp
	if t.gone {
		giveUp()
	}
	t.mu.Unlock()
	for n := 1; ; n++ {
		began := time.Now()
		err := t.ports.Lease.Hold(waiting, "target-"+t.name, t.serve)
		if waiting.Err() != nil || errors.Is(err, errRemoved) {
			return
		}
		if time.Since(began) > t.cfg.MaxAge {
			n = 1
		}
		t.complain(ctx, err)
		pause := t.cfg.backoff(n)
		if errors.Is(err, order.ErrFingerprint) {
			pause = operatorPause
		}
		select {
		case <-time.After(pause):
		case <-waiting.Done():
			return
		}
	}
}

// complain says why the loop ended.
func (t *target) complain(ctx context.Context, err error) {
	target, cause := slog.String("target", t.name), slog.Any("error", err)
	switch {
	case err == nil || errors.Is(err, order.ErrFenced):
		t.log.LogAttrs(ctx, slog.LevelInfo, "target taken over by another process", target, cause)
	case errors.Is(err, order.ErrFingerprint):
		t.log.LogAttrs(ctx, slog.LevelError, "target name belongs to another url: rename it, or remove the old one first", target, cause)
	default:
		t.log.LogAttrs(ctx, slog.LevelWarn, "target loop ended", target, cause)
	}
}

// serve runs while the lease is held.
func (t *target) serve(ctx context.Context, valid func() bool) error {
	t.mu.Lock()
	t.serving = true
	t.mu.Unlock()
	t.metrics.owned.Set(1)
	t.metrics.setUp()
	t.log.LogAttrs(ctx, slog.LevelInfo, "target owned", slog.String("target", t.name))
	err := newLoop(t, valid).run(ctx)
	t.metrics.owned.Set(0)
	t.down.Store(false)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.serving = false
	if t.gone && (err == nil || errors.Is(err, errRemoved) || errors.Is(err, order.ErrFenced)) {
		t.giveUp() // removed, or the business of another owner; anything else is tried again
	}
	return err
}

// remove takes the target out: its owner ends what it is owed, any other process just stops waiting.
func (t *target) remove() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone {
		return
	}
	t.gone = true
	close(t.removed)
	if !t.serving && t.giveUp != nil {
		t.giveUp()
	}
}

// ValidName is subjects.ValidName, which a stage may not import: a target's name is part of a subject.
func ValidName(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
			return false
		}
	}
	return s != "" && len(s) <= 32
}
