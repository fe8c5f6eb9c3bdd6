package health

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// collector reads the monitor when it is asked: calls pay for nothing but their counters, and a node that was removed
// has no series left.
type collector struct {
	m *Monitor

	healthy, share, height, latency, errors, ejections, head, headAge *prometheus.Desc
}

var _ prometheus.Collector = (*collector)(nil)

func newCollector(m *Monitor) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("millrace_gateway_"+name, help, labels, nil)
	}
	return &collector{
		m:         m,
		healthy:   desc("node_healthy", "1 while a node is given calls, 0 while it is ejected or unhealthy.", "node"),
		share:     desc("node_share", "Share of its places that a node is given, below 1 while it returns.", "node"),
		height:    desc("node_height", "A node's head as last known, 0 if it does not tell.", "node"),
		latency:   desc("node_latency_seconds", "Time of calls that a node answered or that timed out.", "node"),
		errors:    desc("node_errors_total", "Calls to a node that went wrong, by how; canceled ones are none.", "node", "reason"),
		ejections: desc("node_ejections_total", "Times that a node was ejected because of how calls went.", "node", "reason"),
		head:      desc("head_number", "The chain's head as the nodes in use tell it."),
		headAge:   desc("head_age_seconds", "Time since the block of the chain's head; 0 while there is no head."),
	}
}

// Describe is of prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.healthy, c.share, c.height, c.latency, c.errors, c.ejections, c.head, c.headAge,
	} {
		ch <- d
	}
}

// Collect is of prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	// Who takes the metrics may be slow, and the lock is needed for verdicts.
	for _, metric := range c.gather(time.Now()) {
		ch <- metric
	}
}

func (c *collector) gather(now time.Time) []prometheus.Metric {
	var all []prometheus.Metric
	add := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		all = append(all, prometheus.MustNewConstMetric(d, kind, v, labels...))
	}
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	head, age := c.m.Head(), time.Duration(0)
	for _, n := range c.m.nodes {
		add(c.healthy, prometheus.GaugeValue, binary(n.use()), n.label)
		add(c.share, prometheus.GaugeValue, n.share(c.m.cfg(), now), n.label)
		add(c.height, prometheus.GaugeValue, float64(n.head.number), n.label)
		var t tally
		n.read(&t)
		for _, o := range failures() {
			add(c.errors, prometheus.CounterValue, float64(t.outcomes[o]), n.label, o.String())
		}
		for _, r := range ejections() {
			add(c.ejections, prometheus.CounterValue, float64(n.ejectionTotal[r]), n.label, string(r))
		}
		all = append(all, c.histogram(&t, n.label))
		if n.head.number == head.Number && n.head.hash == head.Hash {
			age = max(age, n.headAge(now))
		}
	}
	add(c.head, prometheus.GaugeValue, float64(head.Number))
	add(c.headAge, prometheus.GaugeValue, age.Seconds())
	return all
}

func (c *collector) histogram(t *tally, label string) prometheus.Metric {
	bounds := make(map[float64]uint64, exported)
	sum := uint64(0)
	for i, k := range t.latency {
		if i >= 4 && i%4 == 0 {
			bounds[lower(i).Seconds()] = sum
		}
		sum += k
	}
	return prometheus.MustNewConstHistogram(c.latency, sum, time.Duration(t.nanos).Seconds(), bounds, label)
}

func binary(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
