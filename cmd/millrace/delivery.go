package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"millrace/egress"
	"millrace/egress/builder"
	"millrace/egress/post"
	"millrace/internal/bus"
	"millrace/internal/config"
	"millrace/internal/lifecycle"
	"millrace/internal/order"
	"millrace/internal/retry"
)

const (
	// drainDelivery is what recording the last results may take beyond egress.drain.
	drainDelivery = 5 * time.Second
	egressDrain   = 4 * time.Second // egress.Config's default, for a zero egress.drain
	// retireAfter lets the loop of a stub that is to go start, retireFor lets it end.
	retireAfter = time.Second
	retireFor   = 10 * time.Second
)

// delivery is what a process has to do with builders: it delivers to them (egress), or only asks
// whether they are ready (ingress).
type delivery struct {
	clock    builder.Clock
	signer   *post.Signer
	inFlight int
	reg      *prometheus.Registry

	dispatcher *egress.Dispatcher // nil: this process does not deliver
	head       *head              // nil: this process does not deliver
	stub       *stub              // nil: there are builders, or this process does not deliver
	retiring   string             // stub.go's mark, when an earlier life of the node had a stub

	mu      sync.Mutex
	cfg     builder.Config
	to      []egress.Destination // of the configuration in force
	others  []egress.Destination // what it delivers to besides: peers
	senders []egress.Destination // all that ever were, to close their connections
	readyIn *prometheus.Registry // the metrics of the readiness checks in force
	asking  atomic.Pointer[builder.Ready]
	changed chan struct{} // of size one: asking is new
}

func newDelivery(p *process) (*delivery, error) {
	d := &delivery{
		clock: p.bus, inFlight: p.cfg.Egress.InFlight, reg: p.reg, cfg: p.cfg.Builder, changed: make(chan struct{}, 1),
	}
	if err := d.ask(p.cfg.Builder.Targets()); err != nil {
		return nil, usage(err)
	}
	if !p.roles.has(roleEgress) {
		return d, nil
	}
	var err error
	if d.signer, err = post.NewSigner(p.cfg.Builder.Signer); err != nil {
		return nil, usage(err)
	}
	to, err := d.destinations(p)
	if err != nil {
		return nil, err
	}
	d.head = newHead(p.cfg.Orders, p.part("head"), p.reg)
	ports := egress.Ports{
		Clock: p.bus, Lease: p.bus, Head: d.head,
		Feed: func(target, fingerprint string, scope order.Scope) egress.Feed {
			return p.bus.Feed(target, fingerprint, scope)
		},
		Log: func(target string) egress.Log { return p.bus.Done(target) },
	}
	d.dispatcher, err = egress.New(p.cfg.Egress, ports, to, p.part("egress"), p.reg)
	if err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// destinations are the configured builders, or the stub.
func (d *delivery) destinations(p *process) ([]egress.Destination, error) {
	if p.roles&roleNode == roleNode {
		if needed, err := p.cfg.needsStub(); err != nil {
			return nil, usage(err)
		} else if needed {
			return d.toStub(p)
		}
	}
	to, err := builder.Destinations(p.cfg.Builder, d.signer, d.clock, d.inFlight)
	if err != nil {
		return nil, usage(err)
	}
	d.to, d.senders = to, to
	if mark := p.cfg.stubMark(); p.cfg.NATS.Embedded() && exists(mark) {
		d.retiring = mark
		to = append(slices.Clone(to), retiredStub())
	}
	return to, nil
}

func (d *delivery) toStub(p *process) ([]egress.Destination, error) {
	if err := os.WriteFile(p.cfg.stubMark(), nil, 0o600); err != nil {
		return nil, fmt.Errorf("stub builder: %w", err)
	}
	s, err := newStub(p.part("stub"))
	if err != nil {
		return nil, err
	}
	d.stub = s
	to, err := s.destination(d.signer, d.clock, d.inFlight)
	if err != nil {
		s.close()
		return nil, err
	}
	d.to = []egress.Destination{to}
	d.senders = d.to
	return d.to, nil
}

// ask makes the readiness checks of the given builders the ones in force.
func (d *delivery) ask(ts []builder.Target) error {
	reg := prometheus.NewRegistry()
	r, err := builder.NewReady(ts, reg)
	if err != nil {
		return err
	}
	if d.readyIn != nil {
		d.reg.Unregister(d.readyIn)
	}
	d.readyIn = reg
	if err := d.reg.Register(reg); err != nil {
		return fmt.Errorf("metrics of the builders' readiness: %w", err)
	}
	d.asking.Store(r)
	select {
	case d.changed <- struct{}{}:
	default:
	}
	return nil
}

// components deliver and ask; the stub outlives what delivers to it.
func (d *delivery) components(cfg *Config) []lifecycle.Component {
	cs := []lifecycle.Component{{Name: "builder checks", Run: d.runChecks}}
	if d.stub != nil {
		cs = append(cs, lifecycle.Component{Name: "stub builder", Run: d.stub.Run})
	}
	if d.head != nil {
		cs = append(cs, lifecycle.Component{Name: "head", Run: d.head.Run})
	}
	if d.dispatcher != nil {
		drain := cfg.Egress.Drain
		if drain == 0 {
			drain = egressDrain
		}
		cs = append(cs, lifecycle.Component{Name: "egress", Run: d.deliver, Drain: drain + drainDelivery})
	}
	return cs
}

func (d *delivery) deliver(ctx context.Context) error {
	defer d.close()
	var g errgroup.Group
	g.Go(func() error { return d.dispatcher.Run(ctx) })
	g.Go(func() error { return d.retire(ctx) })
	return g.Wait()
}

// retire takes the stub of an earlier life out of the store. Its consumers would never be read
// again, and what they hold would never be purged, until the store is full.
func (d *delivery) retire(ctx context.Context) error {
	if d.retiring == "" || !retry.Pause(ctx, retireAfter) {
		return nil
	}
	d.mu.Lock()
	err := d.dispatcher.Reload(slices.Concat(d.to, d.others))
	d.mu.Unlock()
	if err != nil || !retry.Pause(ctx, retireFor) {
		return err // not known to be done: again at the next start
	}
	if err := os.Remove(d.retiring); err != nil {
		return fmt.Errorf("stub builder: %w", err)
	}
	return nil
}

// serves are the targets that this process delivers to when it has their leases.
func (d *delivery) serves() []egress.Destination {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := slices.Concat(d.to, d.others)
	if d.retiring != "" {
		all = append(all, retiredStub())
	}
	return all
}

// also delivers to others beside the builders, in the place of those of the last call.
func (d *delivery) also(others []egress.Destination) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := slices.Concat(d.to, others)
	if d.retiring != "" && exists(d.retiring) {
		all = append(all, retiredStub())
	}
	if err := d.dispatcher.Reload(all); err != nil {
		return err
	}
	gone := d.others
	d.others = others
	closeIdle(gone)
	return nil
}

// declare has the builders be owed what is accepted from now on. Only who has the streams can: elsewhere it is the
// delivery's own process that makes its consumers.
func (d *delivery) declare(ctx context.Context, b *bus.Bus) error {
	d.mu.Lock()
	all := slices.Clone(d.to)
	d.mu.Unlock()
	for _, to := range all {
		if err := b.Feed(to.Name, to.Fingerprint, to.Scope).Declare(ctx); err != nil {
			return err
		}
	}
	return nil
}

// close lets go of every connection that is not in use.
func (d *delivery) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	closeIdle(d.senders)
	closeIdle(d.others)
}

func closeIdle(ds []egress.Destination) {
	for _, s := range ds {
		if c, ok := s.Sender.(interface{ CloseIdle() }); ok {
			c.CloseIdle()
		}
	}
}

// runChecks asks the builders of the configuration in force, until ctx ends.
func (d *delivery) runChecks(ctx context.Context) error {
	for {
		round, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- d.asking.Load().Run(round) }()
		select {
		case <-ctx.Done():
			stop()
			return <-done
		case <-d.changed:
			stop()
			if err := <-done; err != nil {
				return err
			}
		}
	}
}

// ready is nil, or which builder says that it is not ready.
func (d *delivery) ready() error { return d.asking.Load().Err() }

// errLastBuilder keeps a file that lost its builders from discarding what they are owed.
var errLastBuilder = errors.New("the last builder can't be removed by a reload")

// check says whether reload will take a configuration.
func (d *delivery) check(cfg *Config) error {
	if d.dispatcher == nil || d.stub != nil || len(cfg.Builder.Targets()) > 0 {
		return nil
	}
	return errLastBuilder
}

// reload delivers to the builders of a new configuration. What the stub is still owed when the first
// builder comes is recorded as target_removed, like that of every builder that goes.
func (d *delivery) reload(cfg *Config) error {
	if err := d.check(cfg); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	next := cfg.Builder
	next.Signer = d.cfg.Signer // needs a restart
	if reflect.DeepEqual(next, d.cfg) {
		return nil
	}
	if d.dispatcher != nil {
		to, err := builder.Destinations(next, d.signer, d.clock, d.inFlight)
		if err != nil {
			return err
		}
		if err := d.dispatcher.Reload(slices.Concat(to, d.others)); err != nil {
			return err
		}
		closeIdle(d.senders)
		d.to, d.senders = to, slices.Concat(d.senders, to)
	}
	if err := d.ask(next.Targets()); err != nil {
		return err
	}
	d.cfg = next
	return nil
}

// follow asks another node for the newest block.
func (d *delivery) follow(headURL string) {
	if d.head != nil {
		d.head.follow(headURL)
	}
}

// attrs describe the delivery in the line about the start.
func (d *delivery) attrs() []slog.Attr {
	if d == nil || d.dispatcher == nil {
		return nil
	}
	if d.stub != nil {
		return []slog.Attr{slog.String("builders", "stub"), slog.String("stub", d.stub.addr())}
	}
	var urls []string
	for _, t := range d.cfg.Targets() {
		urls = append(urls, t.Name+"="+config.MaskURLs(t.URL))
	}
	return []slog.Attr{
		slog.String("builders", strings.Join(urls, " ")), slog.String("orderflow_signer", d.signer.Address().Hex()),
	}
}
