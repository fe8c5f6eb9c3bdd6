package nodes

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"millrace/egress/nodes/health"
)

// metrics are the pool's series; latencies of nodes are with egress/nodes/health. Labels of nodes are a closed set: the configured ones, and their series go with them.
type metrics struct {
	calls    *prometheus.CounterVec
	inFlight *prometheus.GaugeVec
	retries  prometheus.Counter
	hedges   prometheus.Counter
}

// nodeMetrics are one node's series.
type nodeMetrics struct {
	calls    [health.Canceled + 1]prometheus.Counter
	inFlight prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		calls: f.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_gateway_node_calls_total", Help: "Tries at a node, by how they ended.",
		}, []string{"node", "outcome"}),
		inFlight: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "millrace_gateway_node_in_flight", Help: "Tries at a node that are under way.",
		}, []string{"node"}),
		retries: f.NewCounter(prometheus.CounterOpts{
			Name: "millrace_gateway_retries_total", Help: "Tries after the first one of a call.",
		}),
		hedges: f.NewCounter(prometheus.CounterOpts{
			Name: "millrace_gateway_hedges_total", Help: "Reads that were asked of a second node because the first took its time.",
		}),
	}
}

func (m *metrics) node(label string) *nodeMetrics {
	n := &nodeMetrics{inFlight: m.inFlight.WithLabelValues(label)}
	for o := health.Outcome(1); o <= health.Canceled; o++ {
		n.calls[o] = m.calls.WithLabelValues(label, o.String())
	}
	return n
}

// forget drops the series of a node that is gone.
func (m *metrics) forget(label string) {
	m.calls.DeletePartialMatch(prometheus.Labels{"node": label})
	m.inFlight.DeleteLabelValues(label)
}
