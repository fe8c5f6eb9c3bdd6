package nodes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"millrace/egress/nodes/dispatch"
	"millrace/egress/nodes/health"
	"millrace/internal/rpcapi"
)

// ErrSameTag refuses a node that could not be told from another one in filter ids.
var ErrSameTag = errors.New("two nodes have the same address, or the same tag by chance")

// Pool is the set of nodes. All methods may be called from any goroutine.
type Pool struct {
	settings atomic.Pointer[Config] // never changed, only replaced, under mu
	verifier Verifier
	log      *slog.Logger
	m        *metrics
	places   *dispatch.Dispatcher
	health   *health.Monitor

	mu    sync.Mutex // one change of the set or the configuration at a time
	nodes atomic.Pointer[map[rpcapi.Tag]*node]
}

// New returns a pool without nodes. verifier may be nil.
func New(cfg Config, verifier Verifier, log *slog.Logger, reg prometheus.Registerer) (*Pool, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &Pool{verifier: verifier, log: log, m: newMetrics(reg)}
	p.settings.Store(&cfg)
	p.nodes.Store(&map[rpcapi.Tag]*node{})
	var err error
	if p.places, err = dispatch.New(cfg.Queue.dispatch(cfg.Balance), reg); err != nil {
		return nil, err
	}
	if p.health, err = health.New(cfg.Health, p.ask, p.judge, log, reg); err != nil {
		return nil, err
	}
	return p, nil
}

// Run watches the nodes until ctx ends, and then waits for calls that are under way.
func (p *Pool) Run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.health.Run(gctx) })
	g.Go(func() error {
		<-gctx.Done()
		p.places.Stop()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.cfg().Drain)
		defer cancel()
		return p.places.Drain(drain)
	})
	err := g.Wait()
	for _, n := range *p.nodes.Load() {
		n.peer.Close()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		p.log.LogAttrs(ctx, slog.LevelWarn, "calls were under way when the time to drain was up")
		return nil
	}
	return err
}

// Set makes these the nodes, in place of those before. What a node that stays is doing goes on; calls at one that
// goes end normally. With an error nothing has changed.
func (p *Pool) Set(all []*rpcapi.Node) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.set(p.cfg(), all)
}

// set is Set; mu is held.
func (p *Pool) set(cfg *Config, all []*rpcapi.Node) error {
	before, after := *p.nodes.Load(), make(map[rpcapi.Tag]*node, len(all))
	for _, n := range all {
		if after[n.Tag] != nil {
			return fmt.Errorf("%w: %s and %s", ErrSameTag, after[n.Tag].Label, n.Label)
		}
		is, err := p.keep(cfg, before[n.Tag], n)
		if err != nil {
			return err
		}
		after[n.Tag] = is
	}
	p.nodes.Store(&after)
	members, list := make([]dispatch.Member, 0, len(after)), make([]*rpcapi.Node, 0, len(after))
	for _, n := range after {
		members = append(members, dispatch.Member{Tag: n.Tag, Places: cfg.workers(n.Node), Weight: n.Weight})
		list = append(list, n.Node)
	}
	p.places.Set(members)
	p.health.Set(list)
	for tag, n := range before {
		if after[tag] == nil || after[tag].peer != n.peer {
			n.peer.Close() // what is in use ends with its call
		}
		if after[tag] == nil {
			p.m.forget(n.Label)
		}
	}
	return nil
}

// keep is the node n with the connections of was, if there are any that fit it.
func (p *Pool) keep(cfg *Config, was *node, n *rpcapi.Node) (*node, error) {
	if was == nil || was.URI != n.URI || was.bounds != cfg.bounds(n) {
		return p.open(cfg, n)
	}
	is := *was
	is.Node = n // its weight or its WebSocket may be another
	return &is, nil
}

// cfg is the configuration in force.
func (p *Pool) cfg() *Config { return p.settings.Load() }

// Reload puts another configuration in force, or changes nothing if cfg has a fault. Calls that wait and run, and what
// is known of the nodes, stay: a try that is under way has the time it began with. A node whose connections have other
// bounds from now on gets new ones, and those in use end with their calls. Config.Drain stays as it was.
func (p *Pool) Reload(cfg Config) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	cfg.Drain = p.cfg().Drain
	if err := cfg.Validate(); err != nil {
		return err
	}
	if err := p.set(&cfg, p.Nodes()); err != nil {
		return err
	}
	p.settings.Store(&cfg)
	return errors.Join(p.places.Reload(cfg.Queue.dispatch(cfg.Balance)), p.health.Reload(cfg.Health)) // both are valid
}

// Check asks n whether it could serve, without making it part of the set.
func (p *Pool) Check(ctx context.Context, n *rpcapi.Node) error {
	if err := p.Refuses(n); err != nil {
		return err
	}
	return p.health.Check(ctx, n)
}

// Head is the chain as the nodes tell it.
func (p *Pool) Head() rpcapi.Head { return p.health.Head() }

// Learned notes that a node has a block.
func (p *Pool) Learned(tag rpcapi.Tag, number uint64, hash [32]byte) {
	p.health.Learned(tag, number, hash)
}

// Status is what is known about each node, in the order of their labels.
func (p *Pool) Status() []health.Status { return p.health.Status() }

// Nodes are the nodes of the set, in the order of their labels.
func (p *Pool) Nodes() []*rpcapi.Node {
	all := slices.SortedFunc(maps.Values(*p.nodes.Load()), func(a, b *node) int { return cmpLabel(a.Node, b.Node) })
	list := make([]*rpcapi.Node, len(all))
	for i, n := range all {
		list[i] = n.Node
	}
	return list
}

// Load is how many places each node has, and how many are taken.
func (p *Pool) Load() map[rpcapi.Tag]dispatch.Load {
	all := map[rpcapi.Tag]dispatch.Load{}
	for _, l := range p.places.Load() {
		all[l.Tag] = l
	}
	return all
}

// Waiting is how many calls of a class wait.
func (p *Pool) Waiting(c rpcapi.Class) int { return p.places.Waiting(c) }

// Room returns once a node has a place that no call waits for.
func (p *Pool) Room(ctx context.Context) error { return p.places.Room(ctx) }

// Refuses says why n can't be in a set, whatever else is in it; nil: it can.
func (p *Pool) Refuses(n *rpcapi.Node) error {
	is, err := p.open(p.cfg(), n)
	if err != nil {
		return err
	}
	is.peer.Close()
	return nil
}

// ask is health's way to a node: beside the places, so that a busy node is not taken for a dead one.
func (p *Pool) ask(ctx context.Context, n *rpcapi.Node, body []byte) (int, []byte, error) {
	is := (*p.nodes.Load())[n.Tag]
	if is == nil || is.URI != n.URI {
		var err error
		if is, err = p.open(p.cfg(), n); err != nil {
			return 0, nil, err
		}
		defer is.peer.Close()
	}
	deadline, _ := ctx.Deadline()
	a, _, err := is.post(ctx, deadline, body)
	return a.Status, a.Body, err
}

// Beside asks the node that c names, without one of its places and once: what is to be known of a node must not wait
// until it has time, nor keep calls waiting. Errors are those of rpcapi.
func (p *Pool) Beside(ctx context.Context, c *rpcapi.Call) (*rpcapi.Answer, error) {
	n := (*p.nodes.Load())[c.Node]
	if n == nil {
		return nil, rpcapi.ErrNoNode
	}
	a, sent, err := n.post(ctx, time.Now().Add(p.cfg().Timeout), c.Body)
	if r := judge(ctx, a, sent, err); r.err != nil {
		return nil, r.err
	}
	return &rpcapi.Answer{Status: a.Status, Body: a.Body, Node: n.Node, Tries: 1}, nil
}

// judge hands health's verdict to who gives out places.
func (p *Pool) judge(tag rpcapi.Tag, v health.Verdict) {
	s := dispatch.Standing{State: dispatch.Healthy, Share: 1, Height: v.Height}
	switch {
	case !v.Healthy:
		s.State = dispatch.Unhealthy
	case v.Share < 1:
		s.State, s.Share = dispatch.Returning, v.Share
	}
	p.places.Judge(tag, s)
}
