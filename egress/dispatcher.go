package egress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Dispatcher runs one loop per destination; none of them affects another.
type Dispatcher struct {
	cfg     Config
	ports   Ports
	log     *slog.Logger
	metrics *metrics
	changed chan struct{} // of size one: something in wanted is new

	mu      sync.Mutex
	wanted  []Destination
	running map[string]*target
}

// New returns a dispatcher to the given destinations, which may be none. A nil log is silent.
func New(cfg Config, ports Ports, to []Destination, log *slog.Logger, reg prometheus.Registerer) (*Dispatcher, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if ports.Clock == nil || ports.Lease == nil || ports.Feed == nil || ports.Log == nil {
		return nil, errors.New("egress: a port is missing")
	}
	if err := errors.Join(cfg.Validate(), check(to)); err != nil {
		return nil, err
	}
	return &Dispatcher{
		cfg: cfg.withDefaults(), ports: ports, log: log, metrics: newMetrics(reg),
		changed: make(chan struct{}, 1), wanted: slices.Clone(to), running: map[string]*target{},
	}, nil
}

func check(to []Destination) error {
	var errs []error
	names := map[string]bool{}
	for _, d := range to {
		switch {
		case d.Name == "" || d.Fingerprint == "" || d.Sender == nil:
			errs = append(errs, fmt.Errorf("egress: destination %q is incomplete", d.Name))
		case d.Scope != 0 && !d.Scope.Valid():
			errs = append(errs, fmt.Errorf("egress: destination %q is owed orders of no known scope", d.Name))
		case names[d.Name]:
			errs = append(errs, fmt.Errorf("egress: two destinations are named %q", d.Name))
		}
		names[d.Name] = true
	}
	return errors.Join(errs...)
}

// Run delivers until ctx ends; it returns when every loop has drained.
func (d *Dispatcher) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	defer loops.Wait()
	for {
		d.adjust(ctx, &loops)
		select {
		case <-ctx.Done():
			return nil
		case <-d.changed:
		}
	}
}

// Reload replaces the destinations. A new one starts at what is not older than orders.max_age. For
// one that is gone everything it is still owed is recorded as target_removed and its consumers are
// deleted, by the process that owns it. Another fingerprint or scope under the same name is one gone and one
// new; the same ones only get the new sender. With an error nothing has changed.
func (d *Dispatcher) Reload(to []Destination) error {
	if err := check(to); err != nil {
		return err
	}
	d.mu.Lock()
	d.wanted = slices.Clone(to)
	d.mu.Unlock()
	d.poke()
	return nil
}

func (d *Dispatcher) poke() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// Down names the targets that this process owns and can't reach at present, sorted.
func (d *Dispatcher) Down() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for name, t := range d.running {
		if t.down.Load() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// adjust removes and starts loops until what runs is what is wanted. A name whose old target is
// still being removed starts when that has ended.
func (d *Dispatcher) adjust(ctx context.Context, loops *sync.WaitGroup) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, t := range d.running {
		i := slices.IndexFunc(d.wanted, func(w Destination) bool { return w.Name == name })
		if i < 0 || !t.is(d.wanted[i]) {
			t.remove()
			continue
		}
		t.to.Store(&d.wanted[i].Sender)
	}
	for _, w := range d.wanted {
		if d.running[w.Name] != nil || ctx.Err() != nil {
			continue
		}
		t := newTarget(d, w)
		d.running[w.Name] = t
		loops.Go(func() {
			t.run(ctx)
			d.stopped(t)
		})
	}
}

// stopped takes a target that ended out of the table.
func (d *Dispatcher) stopped(t *target) {
	d.mu.Lock()
	delete(d.running, t.name)
	d.metrics.forget(t.name)
	d.mu.Unlock()
	d.poke()
}
