package feed

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	kinds    map[kind]*kindMetrics
	left     map[string]prometheus.Counter // by reason
	sockets  prometheus.Gauge
	upstream prometheus.Gauge
	groups   prometheus.Gauge
	head     prometheus.Gauge
	filled   prometheus.Counter
	reorgs   prometheus.Counter
	resets   prometheus.Counter
	queries  prometheus.Counter
	skipped  prometheus.Counter
	failures prometheus.Counter
	resumed  prometheus.Counter
	overflow prometheus.Counter
}

// kindMetrics are of the clients of one kind of subscription.
type kindMetrics struct {
	clients                prometheus.Gauge
	delivered, slow, ended prometheus.Counter
}

// newMetrics registers the package's metrics; every label value exists from the start.
func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "millrace_gateway_feed_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: "millrace_gateway_feed_" + name, Help: help})
	}
	m := &metrics{
		kinds:    make(map[kind]*kindMetrics),
		left:     make(map[string]prometheus.Counter),
		sockets:  gauge("node_sockets", "Open WebSockets to nodes."),
		upstream: gauge("node_subscriptions", "Subscriptions at nodes, shared by all clients."),
		groups:   gauge("groups", "Distinct subscriptions that clients have or had until a moment ago."),
		head:     gauge("head_number", "Number of the last canonical block that clients were told of."),
		filled:   counter("filled_headers_total", "Headers that were fetched because no node announced them."),
		reorgs:   counter("reorgs_total", "Changes of the chain that dropped blocks."),
		resets:   counter("resets_total", "Gaps in the chain that could not be filled: all subscriptions to it were ended."),
		queries:  counter("log_queries_total", "Blocks whose logs were asked for."),
		skipped:  counter("log_queries_saved_total", "Blocks whose logs were not asked for, because their bloom filter has none."),
		failures: counter("call_failures_total", "Questions to the nodes that were not answered."),
		resumed:  counter("resumed_total", "Subscriptions that were passed on and had to be made anew, at the same node or another."),
		overflow: counter("node_results_dropped_total", "Upstream subscriptions that were ended because their queue was full."),
	}
	left := f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_gateway_feed_sources_left_total", Help: "Times that the node which the chain is followed at was given up, by why.",
	}, []string{"reason"})
	for _, reason := range []string{leftSilent, leftBetter, leftUnhealthy, leftFailed} {
		m.left[reason] = left.WithLabelValues(reason)
	}
	m.perKind(f)
	return m
}

func (m *metrics) perKind(f promauto.Factory) {
	label := []string{"kind"}
	clients := f.NewGaugeVec(prometheus.GaugeOpts{
		Name: "millrace_gateway_feed_clients", Help: "Clients' subscriptions.",
	}, label)
	delivered := f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_gateway_feed_delivered_total", Help: "Results handed to clients.",
	}, label)
	cut := f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_gateway_feed_cut_total", Help: "Clients' subscriptions ended from this side: slow ones had no room, of the others a gap could not be filled or the gateway stopped.",
	}, append(label, "reason"))
	for k := kindHeads; k <= kindSyncing; k++ {
		m.kinds[k] = &kindMetrics{
			clients: clients.WithLabelValues(k.String()), delivered: delivered.WithLabelValues(k.String()),
			slow: cut.WithLabelValues(k.String(), "slow"), ended: cut.WithLabelValues(k.String(), "ended"),
		}
	}
}
