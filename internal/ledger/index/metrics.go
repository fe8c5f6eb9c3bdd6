package index

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	orders, ends, missed, unreadable, failures prometheus.Counter
	bytes                                      prometheus.Gauge
	rounds, lookups                            prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "millrace_trace_" + name, Help: help})
	}
	histogram := func(name, help string) prometheus.Histogram {
		return f.NewHistogram(prometheus.HistogramOpts{
			Name: "millrace_trace_" + name, Help: help,
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		})
	}
	return &metrics{
		orders:     counter("orders_total", "Orders put into the trace index, again after a restart."),
		ends:       counter("ends_total", "Terminal records put into the trace index, again after a restart."),
		missed:     counter("missed_total", "Validated orders that were purged before the trace index read them."),
		unreadable: counter("unreadable_total", "Batches of terminal records that the trace index could not read."),
		failures:   counter("failures_total", "Rounds of the trace index that failed; the next one goes on where they ended."),
		bytes:      f.NewGauge(prometheus.GaugeOpts{Name: "millrace_trace_bytes", Help: "Bytes of the trace index on disk."}),
		rounds:     histogram("round_seconds", "How long it takes the trace index to read what is new."),
		lookups:    histogram("lookup_seconds", "How long a look-up in the trace index takes, with waiting for what was stored just now."),
	}
}
