package loadtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"millrace/loadtest/regions"
)

const (
	// probeEvery is how often each link is probed: about as often as TCP would keep it awake.
	probeEvery = 20 * time.Millisecond
	// trafficEvery is how often the bytes of the links are looked at.
	trafficEvery = 250 * time.Millisecond
)

// RegionNode is one node of a test over several regions.
type RegionNode struct {
	Door string // order door; empty: no orders are sent there
	Sink *Sink  // the builder behind it, whom each order of each door is to reach; nil: not looked at
	PID  int    // whose CPU and memory are reported; zero: not
}

// RegionsConfig is a test of nodes that are joined by a network, which runs already.
type RegionsConfig struct {
	Topology regions.Topology
	Network  *regions.Network
	Scenario regions.Scenario
	Hooks    regions.Hooks
	Nodes    map[string]RegionNode
	// Flow is what is sent; its rate is that of all doors together, its URLs are the nodes'.
	Flow Flow
	// Warmup lies between the first probe and the first order.
	Warmup time.Duration
	// Settle is how long the orders on their way get after the last answer and the last step.
	Settle time.Duration
	Notes  io.Writer // gets a line about every 10 s; nil: none
}

// RunRegions sends to every door, lets the scenario happen meanwhile, waits until what was accepted
// is everywhere, and reports. Latencies count from sending at one node to the receipt of the builder
// behind another; both are on this machine's clock.
func RunRegions(ctx context.Context, c RegionsConfig) (*RegionsReport, error) {
	if c.Settle == 0 {
		c.Settle = 10 * time.Second
	}
	if err := c.Scenario.Validate(c.Topology); err != nil {
		return nil, errors.Join(ErrConfig, err)
	}
	m := &regional{RegionsConfig: c, journal: &Journal{}, sampler: &sampler{}, echoes: map[regions.Pair]*echoLog{}}
	var err error
	if m.flows, err = c.flows(); err != nil {
		return nil, err
	}
	if m.senders, err = prepare(ctx, Scenario{Flows: m.flows}, m.journal); err != nil {
		return nil, err
	}
	for _, name := range c.Topology.NodeNames() {
		if pid := c.Nodes[name].PID; pid > 0 {
			m.sampler.pids = append(m.sampler.pids, pid)
		}
	}
	if m.linksCPU, err = regions.MeasureCPU(func() error { return m.run(ctx) }); err != nil {
		return nil, err
	}
	return m.report(), nil
}

// flows makes one of each door, in equal parts.
func (c RegionsConfig) flows() ([]Flow, error) {
	var out []Flow
	for _, name := range c.Topology.Doors() {
		door := c.Nodes[name].Door
		if door == "" {
			return nil, fmt.Errorf("%w: node %s has no door", ErrConfig, name)
		}
		f := c.Flow
		f.Name, f.URLs = name, []string{door}
		out = append(out, f)
	}
	for i := range out {
		out[i].Rate /= float64(len(out))
		out[i].Preload /= uint64(len(out))
	}
	return out, nil
}

// regional is one run and what was seen of it.
type regional struct {
	RegionsConfig
	flows   []Flow
	journal *Journal
	senders []*Sender
	sampler *sampler
	echoes  map[regions.Pair]*echoLog

	started  time.Time
	elapsed  time.Duration // of the sending
	events   []regions.Event
	traffic  trafficLog
	linksCPU time.Duration
}

// echoLog is what came back of one link's probes.
type echoLog struct {
	mu  sync.Mutex
	got []regions.Echo
}

func (l *echoLog) add(e regions.Echo) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got = append(l.got, e)
}

// since is what was sent from a time on, a copy.
func (l *echoLog) since(at time.Time) []regions.Echo {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.got), func(e regions.Echo) bool { return e.Sent.Before(at) })
}

// trafficSample is the bytes of all links at one time.
type trafficSample struct {
	at    time.Time
	bytes map[regions.Pair]int64
}

// trafficLog is how many bytes the links had carried when.
type trafficLog struct {
	mu      sync.Mutex
	samples []trafficSample
}

// look adds what the links have carried by now.
func (m *regional) look() {
	s := trafficSample{at: time.Now(), bytes: map[regions.Pair]int64{}}
	for p := range m.echoes {
		s.bytes[p] = m.Network.Traffic(p).Bytes
	}
	m.traffic.mu.Lock()
	defer m.traffic.mu.Unlock()
	m.traffic.samples = append(m.traffic.samples, s)
}

// settle waits until every sink has every accepted order, or patience is over.
func (m *regional) settle(ctx context.Context) {
	end := time.Now().Add(m.Settle)
	for ctx.Err() == nil && time.Now().Before(end) {
		if m.missing() == 0 {
			return
		}
		pause(ctx, settlePoll)
	}
}

// missing counts the accepted orders that a sink has not got, over all sinks.
func (m *regional) missing() int {
	accepted := m.journal.Results()
	accepted = slices.DeleteFunc(accepted, func(r Result) bool { return r.Answer != AnswerAccepted })
	n := 0
	for _, node := range m.Nodes {
		if node.Sink == nil {
			continue
		}
		seen := firstReceipts(node.Sink.Receipts())
		for i := range accepted {
			if _, ok := seen[accepted[i].Tag]; !ok {
				n++
			}
		}
	}
	return n
}

// run probes and watches all along, and sends in between.
func (m *regional) run(ctx context.Context) error {
	watch, stop := context.WithCancel(ctx)
	defer stop()
	g, watch := errgroup.WithContext(watch)
	for _, p := range m.crossing() {
		l := &echoLog{}
		m.echoes[p] = l
		g.Go(func() error { return m.Network.Probe(watch, p, probeEvery, l.add) })
	}
	g.Go(func() error {
		defer stop()
		pause(watch, m.Warmup)
		return m.measure(watch, g)
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// crossing are the links that orders have to cross: from each door to each other node with a sink.
func (m *regional) crossing() []regions.Pair {
	var out []regions.Pair
	for _, f := range m.flows {
		for _, to := range m.Topology.NodeNames() {
			if to != f.Name && m.Nodes[to].Sink != nil {
				out = append(out, regions.Pair{From: f.Name, To: to})
			}
		}
	}
	return out
}

// measure is from the first order to the last receipt.
func (m *regional) measure(ctx context.Context, watchers *errgroup.Group) error {
	if err := m.sampler.take(); err != nil {
		return err
	}
	m.started = time.Now()
	m.look()
	watch, stop := context.WithCancel(ctx)
	defer stop()
	watchers.Go(func() error { return m.sampler.run(watch) })
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		m.watchTraffic(watch)
	}()
	defer func() { <-watched }()
	defer stop() // before the wait for it
	s := Scenario{Notes: m.Notes}
	defer s.note(m.journal, m.started, noteEvery)()

	g, gctx := errgroup.WithContext(ctx)
	var sending errgroup.Group
	for _, sender := range m.senders {
		sending.Go(func() error { return sender.Run(gctx) })
	}
	g.Go(func() error {
		defer func() { m.elapsed = time.Since(m.started) }()
		return sending.Wait()
	})
	g.Go(func() (err error) {
		m.events, err = m.Network.Play(gctx, m.Scenario, m.Hooks)
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	m.settle(ctx)
	m.look()
	return errors.Join(ctx.Err(), m.sampler.take())
}

func (m *regional) watchTraffic(ctx context.Context) {
	t := time.NewTicker(trafficEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			m.look()
		case <-ctx.Done():
			return
		}
	}
}
