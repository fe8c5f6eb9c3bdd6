package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"millrace/internal/rpcapi"
)

// Monitor knows the health of a set of nodes.
type Monitor struct {
	ask   Ask
	judge func(rpcapi.Tag, Verdict)
	log   *slog.Logger

	config atomic.Pointer[Config]               // never changed, only replaced, under mu
	byTag  atomic.Pointer[map[rpcapi.Tag]*node] // the map is never changed
	tip    atomic.Pointer[tip]
	look   chan struct{} // a call said enough to look at once
	reset  chan struct{} // the set or the configuration changed

	mu    sync.Mutex
	nodes []*node // as configured
	chain uint64  // that most are on, without Config.ChainID
}

// New makes a Monitor without nodes. judge is told every verdict, see Concurrency.
func New(cfg Config, ask Ask, judge func(rpcapi.Tag, Verdict), log *slog.Logger, reg prometheus.Registerer) (*Monitor, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if ask == nil || judge == nil || log == nil || reg == nil {
		return nil, errors.New("health: expected ask, judge, log and reg")
	}
	m := &Monitor{
		ask: ask, judge: judge, log: log, chain: cfg.ChainID,
		look: make(chan struct{}, 1), reset: make(chan struct{}, 1),
	}
	m.config.Store(&cfg)
	m.byTag.Store(&map[rpcapi.Tag]*node{})
	m.tip.Store(&tip{changed: make(chan struct{})})
	if err := reg.Register(newCollector(m)); err != nil {
		return nil, fmt.Errorf("register metrics of nodes: %w", err)
	}
	return m, nil
}

// Set replaces the set of nodes. What is known of those that stay is kept; a new one is unhealthy until its first
// check. Of nodes with one tag the first counts.
func (m *Monitor) Set(set []*rpcapi.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	before := *m.byTag.Load()
	after := make(map[rpcapi.Tag]*node, len(set))
	labels := make(map[string]bool, len(set))
	m.nodes = nil
	for _, rpc := range set {
		if after[rpc.Tag] != nil {
			continue
		}
		// Two nodes may differ in what their labels leave out.
		label := rpc.Label
		if labels[label] {
			label = fmt.Sprintf("%s#%08x", rpc.Label, uint32(rpc.Tag))
		}
		labels[label] = true
		n := before[rpc.Tag]
		if n == nil {
			n = newNode(rpc, label, m.cfg().Check, m.cfg().Window, now)
		}
		n.rpc.Store(rpc)
		n.label = label
		after[rpc.Tag] = n
		m.nodes = append(m.nodes, n)
	}
	m.byTag.Store(&after)
	m.review(now)
	nudge(m.reset)
}

// Observe counts how a call to a node went, and how long it took.
func (m *Monitor) Observe(tag rpcapi.Tag, o Outcome, d time.Duration) {
	n := (*m.byTag.Load())[tag]
	if n == nil || o < Answered || o > Canceled {
		return
	}
	if n.observe(o, d, uint64(m.cfg().Failures)) { //nolint:gosec // positive
		nudge(m.look)
	}
}

// Learned says that a node told its head by itself.
func (m *Monitor) Learned(tag rpcapi.Tag, number uint64, hash [32]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := (*m.byTag.Load())[tag]
	if n == nil {
		return
	}
	now := time.Now()
	n.head, n.heard, n.knows = block{number: number, hash: hash, at: now}, now, tellsHead
	m.review(now)
}

// Check asks a node once, whether it belongs to the set or not. The error says why it did not pass.
func (m *Monitor) Check(ctx context.Context, rpc *rpcapi.Node) error {
	if m.cfg().Check == ModeNone {
		return nil
	}
	p := &prober{mode: m.cfg().Check, ask: m.ask}
	r := m.probe(ctx, p, rpc)
	if r.fault == "" {
		m.mu.Lock()
		r.fault, r.text = m.fault(&r, r.head, time.Now())
		m.mu.Unlock()
	}
	if r.fault != "" {
		return fmt.Errorf("%w: %s: %s", ErrUnhealthy, r.fault, r.text)
	}
	return nil
}

func (m *Monitor) probe(ctx context.Context, p *prober, rpc *rpcapi.Node) report {
	ctx, cancel := context.WithTimeout(ctx, m.cfg().Timeout)
	defer cancel()
	return p.check(ctx, rpc)
}

// tick is how often calls are judged without cause, and how often a share grows.
const tick = time.Second

// Run checks the nodes until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { m.attend(ctx); return nil })
	g.Go(func() error { m.follow(ctx, g); return nil })
	return g.Wait()
}

// attend looks at how calls go.
func (m *Monitor) attend(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-m.look:
		}
		m.mu.Lock()
		now := time.Now()
		m.eject(now)
		m.review(now)
		m.mu.Unlock()
	}
}

// loop is the checks of one node.
type loop struct {
	end  context.CancelFunc
	wake chan struct{} // the next check is due now
}

// follow keeps one loop of checks for each node of the set.
func (m *Monitor) follow(ctx context.Context, g *errgroup.Group) {
	running := make(map[*node]loop)
	cfg := m.cfg()
	for {
		nodes, before := *m.byTag.Load(), cfg
		cfg = m.cfg()
		for n, l := range running {
			switch {
			case nodes[n.tag] != n || cfg.Check == ModeNone:
				l.end()
				delete(running, n)
			case cfg != before:
				nudge(l.wake)
			}
		}
		for _, n := range nodes {
			if _, runs := running[n]; runs || cfg.Check == ModeNone {
				continue
			}
			own, cancel := context.WithCancel(ctx)
			l := loop{end: cancel, wake: make(chan struct{}, 1)}
			running[n] = l
			g.Go(func() error { defer cancel(); m.watch(own, n, l.wake); return nil })
		}
		select {
		case <-ctx.Done():
			return
		case <-m.reset:
		}
	}
}

// watch checks one node. Its pace counts from the start of a check, so that one that hangs is found out as soon.
func (m *Monitor) watch(ctx context.Context, n *node, wake <-chan struct{}) {
	p := &prober{mode: m.cfg().Check, ask: m.ask}
	for {
		started := time.Now()
		if mode := m.cfg().Check; mode != p.mode {
			*p = prober{mode: mode, ask: m.ask, proven: p.proven}
		}
		r := m.probe(ctx, p, n.rpc.Load())
		if ctx.Err() != nil {
			return
		}
		m.conclude(n, &r, p.mode, started)
		interval := m.cfg().Interval
		pace := interval*7/8 + rand.N(interval/4+1) //nolint:gosec // jitter
		if !idle(ctx, pace-time.Since(started), wake) {
			return
		}
	}
}

// idle waits for d, or until it is woken; false: ctx has ended.
func idle(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// conclude takes what a check found out. One that began before a reload tells what nobody asks for any more.
func (m *Monitor) conclude(n *node, r *report, mode Mode, started time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if (*m.byTag.Load())[n.tag] != n || mode != m.cfg().Check {
		return
	}
	now := time.Now()
	fault, text := r.fault, r.text
	if fault == "" {
		if r.chain != 0 {
			n.chain = r.chain
		}
		n.knows, n.syncing = max(n.knows, r.knows), r.syncing
		// A head that came by itself while it was asked is newer.
		if r.knows == tellsHead && !n.heard.After(started) {
			n.head, n.heard = r.head, now
		}
		n.finalized = r.finalized.number
		fault, text = m.fault(r, n.head, now)
	}
	if fault == "" {
		m.passed(n, now)
	} else {
		m.failed(n, fault, text)
	}
	m.review(now)
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
