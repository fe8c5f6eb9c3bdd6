package loadtest

import (
	"fmt"
	"slices"
	"time"

	"millrace/loadtest/regions"
)

// SchemaRegions is the schema of a report over several regions.
const SchemaRegions = "millrace.loadtest.regions/1"

// RegionsReport is what a test over several regions found. Times are of one clock.
type RegionsReport struct {
	Schema   string          `json:"schema"`
	Started  time.Time       `json:"started"`
	Elapsed  time.Duration   `json:"elapsed_ns"` // of the sending
	Topology string          `json:"topology"`
	Scenario string          `json:"scenario,omitempty"`
	Setup    Setup           `json:"setup"`
	Doors    []FlowReport    `json:"doors"`
	Links    []LinkReport    `json:"links"`
	Events   []regions.Event `json:"events,omitempty"`
	// CPU and PeakRSS are of the nodes whose processes are known and ran to the end.
	CPU       time.Duration `json:"cpu_ns,omitempty"`
	PerOrder  time.Duration `json:"cpu_per_order_ns,omitempty"`
	PeakRSS   int64         `json:"peak_rss_bytes,omitempty"`
	Generator Generator     `json:"generator"` // the emulated links included
	// LinksCPU is the emulation's part of the generator, by samples.
	LinksCPU time.Duration `json:"links_cpu_ns"`
}

// LinkReport is the orders that came in at one node and were to reach the builder behind another, or
// behind the same one.
type LinkReport struct {
	From string `json:"from"`
	To   string `json:"to"`
	// Conditions are those of the topology from From to To.
	Conditions regions.Conditions `json:"conditions"`
	// Orders is from sending to the receipt at the far builder, of the accepted ones that arrived.
	Orders Latency `json:"orders"`
	// Echo is a small TCP message through the same link, one way and there and back.
	Echo      Latency `json:"echo"`
	RoundTrip Latency `json:"echo_round_trip"`
	// Beyond is what is left of each quantile of the orders without that of the echo: the nodes'
	// part. It can be negative where a rare delay hit more of the echoes.
	Beyond Beyond `json:"beyond_echo"`

	Accepted   int `json:"accepted"` // by From's door
	Delivered  int `json:"delivered"`
	Lost       int `json:"lost"`
	Duplicates int `json:"duplicates"` // second deliveries without the repeat mark
	Repeats    int `json:"repeats"`    // with the mark

	Bytes       int64   `json:"bytes,omitempty"`                // that went from From to To, whoever dialed
	Bandwidth   float64 `json:"bits_per_second,omitempty"`      // on average while orders were sent
	Peak        float64 `json:"peak_bits_per_second,omitempty"` // in any quarter of a second
	Connections int     `json:"connections,omitempty"`          // dialed by From
	Resets      int     `json:"resets,omitempty"`

	OrderCurve []Quantile  `json:"orders_curve,omitempty"`
	EchoCurve  []Quantile  `json:"echo_curve,omitempty"`
	Series     *LinkSeries `json:"series,omitempty"`
}

// Beyond is a difference of latencies, quantile by quantile, microseconds.
type Beyond struct {
	P50  int64 `json:"p50_us"`
	P90  int64 `json:"p90_us"`
	P99  int64 `json:"p99_us"`
	P999 int64 `json:"p999_us"`
}

// beyond is what a has more than b; zero when there is no b.
func beyond(a, b Latency) Beyond {
	if a.Count == 0 || b.Count == 0 {
		return Beyond{}
	}
	return Beyond{P50: a.P50 - b.P50, P90: a.P90 - b.P90, P99: a.P99 - b.P99, P999: a.P999 - b.P999}
}

// LinkSeries is one link over time: interval i reaches from i to i+1 steps after the start.
type LinkSeries struct {
	Step      float64   `json:"step_seconds"`
	Delivered []float64 `json:"delivered_per_second"`
	P50       []float64 `json:"p50_us"` // of the orders that arrived then
	P99       []float64 `json:"p99_us"`
	Echo      []float64 `json:"echo_us"` // median of the echoes that were sent then
	Bits      []float64 `json:"bits_per_second"`
}

// crosses reports whether it is a link between two nodes.
func (l *LinkReport) crosses() bool { return l.From != l.To }

func (l *LinkReport) name() string {
	if !l.crosses() {
		return l.From
	}
	return l.From + " > " + l.To
}

// Err is ErrViolations when an accepted order is missing somewhere or came twice unmarked.
func (r *RegionsReport) Err() error {
	lost, twice := r.lost(), 0
	for i := range r.Links {
		twice += r.Links[i].Duplicates
	}
	if lost+twice == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d orders lost between nodes, %d delivered twice", ErrViolations, lost, twice)
}

func (r *RegionsReport) lost() int {
	n := 0
	for i := range r.Links {
		n += r.Links[i].Lost
	}
	return n
}

// report puts together what was seen.
func (m *regional) report() *RegionsReport {
	results := m.journal.Results()
	s := Scenario{Flows: m.flows}
	setup := s.setup()
	rep := &RegionsReport{
		Schema: SchemaRegions, Started: m.started, Elapsed: m.elapsed, Topology: m.Topology.Name, Scenario: m.Scenario.Name,
		Setup: setup, Events: m.events, LinksCPU: m.linksCPU,
	}
	home := &Report{Elapsed: m.elapsed}
	for i, f := range m.flows {
		var seen map[Tag]time.Time
		if sink := m.Nodes[f.Name].Sink; sink != nil {
			seen = firstReceipts(sink.Receipts())
		}
		home.Flows = append(home.Flows, summarizeFlow(f.Name, uint16(i), results, seen))
		for _, to := range m.Topology.NodeNames() {
			if m.Nodes[to].Sink != nil {
				rep.Links = append(rep.Links, m.link(uint16(i), regions.Pair{From: f.Name, To: to}, results))
			}
		}
	}
	rep.Doors = home.Flows
	m.costs(rep, home, len(results))
	return rep
}

// costs fills in what the nodes and the generator took.
func (m *regional) costs(rep *RegionsReport, home *Report, sent int) {
	before, after := m.sampler.first(), m.sampler.until(time.Now())
	rep.CPU, rep.PeakRSS = max(after.watch.CPU-before.watch.CPU, 0), after.watch.PeakRSS
	rep.PerOrder = per(rep.CPU, m.journal.Count(AnswerAccepted))
	g := &rep.Generator
	g.CPU = after.own.CPU - before.own.CPU
	g.PerOrder = per(g.CPU, sent)
	g.Cores = g.CPU.Seconds() / max(after.at.Sub(before.at).Seconds(), 1e-9)
	for _, s := range m.senders {
		st := s.Starved()
		g.Starved.Orders += st.Orders
		g.Starved.Shift += st.Shift
	}
	g.judge(m.flows, home)
}

// link is the report of one door's orders at one builder.
func (m *regional) link(flow uint16, p regions.Pair, results []Result) LinkReport {
	l := LinkReport{From: p.From, To: p.To}
	receipts := slices.DeleteFunc(m.Nodes[p.To].Sink.Receipts(), func(r Receipt) bool { return !r.Tagged || r.Tag.Flow != flow })
	l.countRepeats(receipts)
	seen := firstReceipts(receipts)
	end := m.elapsed
	for _, at := range seen {
		end = max(end, at.Sub(m.started))
	}
	line := newLinkTimes(m.started, end)
	orders := newHistogram()
	for i := range results {
		r := &results[i]
		if r.Tag.Flow != flow || r.Answer != AnswerAccepted {
			continue
		}
		l.Accepted++
		at, ok := seen[r.Tag]
		if !ok {
			l.Lost++
			continue
		}
		l.Delivered++
		took := at.Sub(r.Done.Add(-r.Latency))
		record(orders, took)
		line.order(at, took)
	}
	l.Orders, l.OrderCurve = summarize(orders), curve(orders)
	if l.crosses() {
		l.Conditions = m.Topology.Between(p)
		m.echo(&l, p, line)
		m.bytes(&l, p, line)
	}
	l.Series = line.series()
	return l
}

// countRepeats counts the deliveries after the first of each order that the sink took.
func (l *LinkReport) countRepeats(receipts []Receipt) {
	taken := map[Tag]struct{}{}
	for i := range receipts {
		r := &receipts[i]
		if !r.Taken() {
			continue
		}
		_, again := taken[r.Tag]
		taken[r.Tag] = struct{}{}
		switch {
		case again && r.Repeat:
			l.Repeats++
		case again:
			l.Duplicates++
		}
	}
}

// echo fills in what the probes of a link found while it was measured.
func (m *regional) echo(l *LinkReport, p regions.Pair, line *linkTimes) {
	there, both := newHistogram(), newHistogram()
	for _, e := range m.echoes[p].since(m.started) {
		record(there, e.OneWay)
		record(both, e.RoundTrip)
		line.echo(e.Sent, e.OneWay)
	}
	l.Echo, l.RoundTrip, l.EchoCurve = summarize(there), summarize(both), curve(there)
	l.Beyond = beyond(l.Orders, l.Echo)
}

// bytes fills in what a link carried.
func (m *regional) bytes(l *LinkReport, p regions.Pair, line *linkTimes) {
	t := m.Network.Traffic(p)
	l.Connections, l.Resets = t.Connections, t.Resets
	m.traffic.mu.Lock()
	defer m.traffic.mu.Unlock()
	samples := m.traffic.samples
	for i := 1; i < len(samples); i++ {
		a, b := samples[i-1], samples[i]
		n, took := b.bytes[p]-a.bytes[p], b.at.Sub(a.at).Seconds()
		l.Bytes += n
		line.bits(a.at, 8*float64(n))
		if took > 0 && b.at.Sub(a.at) > trafficEvery/2 { // a shorter one would show a burst as a rate
			l.Peak = max(l.Peak, 8*float64(n)/took)
		}
		if b.at.Sub(m.started) <= m.elapsed {
			l.Bandwidth = 8 * float64(l.Bytes) / max(b.at.Sub(m.started).Seconds(), 1e-9)
		}
	}
}
