package feed

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"millrace/internal/rpcapi"
)

// Feed is the subscriptions of all clients.
type Feed struct {
	config  atomic.Pointer[Config] // never changed, only replaced
	ports   Ports
	log     *slog.Logger
	metrics *metrics
	links   *links
	heads   *group

	mu     sync.Mutex
	chain  chain
	groups map[string]*group
	// spawn starts a goroutine of Run's; nil while Run does not run.
	spawn func(work func(context.Context))
}

// New makes a Feed that Run brings to life.
func New(cfg Config, ports Ports, log *slog.Logger, reg prometheus.Registerer) (*Feed, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if ports.Calls == nil || ports.Nodes == nil {
		return nil, errors.New("feed: needs calls and nodes")
	}
	f := &Feed{ports: ports, log: log, metrics: newMetrics(reg), groups: make(map[string]*group)}
	f.config.Store(&cfg)
	f.heads = newGroup(spec{kind: kindHeads, key: "newHeads"}, f.metrics.kinds[kindHeads], 0)
	f.links = newLinks(f.cfg(), f.client, f.metrics)
	return f, nil
}

// cfg is the configuration in force.
func (f *Feed) cfg() *Config { return f.config.Load() }

// Reload puts other values of Poll, Silence, Linger and MaxGroups in force, or changes nothing if cfg has a fault.
// Subscriptions stay, also where there are more than may be from now on.
func (f *Feed) Reload(cfg Config) error {
	next := *f.cfg()
	next.Poll, next.Silence, next.Linger, next.MaxGroups = cfg.Poll, cfg.Silence, cfg.Linger, cfg.MaxGroups
	if err := next.Validate(); err != nil {
		return err
	}
	f.config.Store(&next)
	return nil
}

// client is what a node's WebSocket is dialled with; nil means plainly.
func (f *Feed) client(n *rpcapi.Node) (*http.Client, error) {
	switch {
	case f.ports.Clients != nil:
		return f.ports.Clients.Client(n), nil
	case n.Pin.Kind != 0:
		return nil, errPinned
	}
	return nil, nil //nolint:nilnil // see above
}

// Run follows the chain and serves subscriptions until ctx ends.
func (f *Feed) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	f.mu.Lock()
	f.spawn = func(work func(context.Context)) { g.Go(func() error { work(ctx); return nil }) }
	f.mu.Unlock()
	// The follower ends after it has shut the door, so that nothing is spawned once Wait may return.
	g.Go(func() error {
		defer f.shut()
		f.follow(ctx)
		return nil
	})
	err := g.Wait()
	f.links.wait()
	return err
}

// shut ends all subscriptions and lets no new one begin.
func (f *Feed) shut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spawn = nil
	f.heads.end(rpcapi.ErrStopping)
	for _, g := range f.groups {
		g.end(rpcapi.ErrStopping)
	}
	clear(f.groups)
}

// Subscribe takes the parameters of eth_subscribe and delivers what comes from now on, until the subscription is
// closed, or deliver has no room, or was given an error. Errors are those of rpcapi, among them ErrStopping.
func (f *Feed) Subscribe(_ context.Context, params []byte, deliver rpcapi.Deliver) (rpcapi.Subscription, error) {
	s, err := parseSpec(params)
	if err != nil {
		return nil, err
	}
	if s.params != "" && !f.subscribable() {
		return nil, rpcapi.ErrSubscriptionUnsupported
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	g, err := f.group(s)
	if err != nil {
		return nil, err
	}
	after := f.chain.sequence
	if s.params != "" {
		after = 0
	}
	return g.join(deliver, after), nil
}

// subscribable says whether any node has a WebSocket.
func (f *Feed) subscribable() bool {
	for _, s := range f.ports.Nodes.Nodes() {
		if s.Node.WS != nil {
			return true
		}
	}
	return false
}

// group is the one with the spec's key, new if there was none. It is called with the lock held.
func (f *Feed) group(s spec) (*group, error) {
	if f.spawn == nil {
		return nil, rpcapi.ErrStopping
	}
	if s.kind == kindHeads {
		return f.heads, nil
	}
	if g := f.groups[s.key]; g != nil {
		return g, nil
	}
	if len(f.groups) >= f.cfg().MaxGroups {
		return nil, rpcapi.ErrSubscriptionLimit
	}
	g := newGroup(s, f.metrics.kinds[s.kind], f.cfg().QueueSteps)
	f.groups[s.key] = g
	f.metrics.groups.Set(float64(len(f.groups)))
	f.spawn(func(ctx context.Context) { f.tend(ctx, g) })
	return g, nil
}

// tend keeps a group at work until its last client has been gone for a while.
func (f *Feed) tend(ctx context.Context, g *group) {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	work.Go(func() {
		if g.spec.kind == kindLogs {
			f.derive(ctx, g)
			return
		}
		f.relay(ctx, g)
	})
	linger := time.NewTimer(f.cfg().Linger)
	defer linger.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.changed:
			linger.Reset(f.cfg().Linger)
		case <-linger.C:
			if f.retire(g) {
				return
			}
		}
	}
}

// retire forgets a group that has no members.
func (f *Feed) retire(g *group) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !g.empty() {
		return false
	}
	delete(f.groups, g.spec.key)
	f.metrics.groups.Set(float64(len(f.groups)))
	return true
}

// publish makes a branch canonical and tells everyone.
func (f *Feed) publish(branch []*header) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.chain.apply(branch)
	if len(s.dropped) > 0 {
		f.metrics.reorgs.Inc()
	}
	f.metrics.head.Set(float64(f.chain.head().number))
	for _, h := range s.added {
		f.heads.fan(h.raw, s.sequence)
	}
	for _, g := range f.groups {
		if g.steps != nil {
			g.push(s)
		}
	}
}

// restart begins the chain anew at h; what followed the old one has a gap then.
func (f *Feed) restart(h *header) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.chain.head() != nil {
		f.metrics.resets.Inc()
		f.heads.end(rpcapi.ErrSubscriptionGap)
		for _, g := range f.groups {
			if g.steps != nil {
				g.end(rpcapi.ErrSubscriptionGap)
			}
		}
	}
	f.chain.reset(h)
	f.metrics.head.Set(float64(h.number))
}

// canonical says whether the block is still part of the chain.
func (f *Feed) canonical(h *header) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.chain.has(h)
}

func (f *Feed) learned(tag rpcapi.Tag, h *header) {
	if f.ports.Learner != nil {
		f.ports.Learner.Learned(tag, h.number, h.hash)
	}
}
