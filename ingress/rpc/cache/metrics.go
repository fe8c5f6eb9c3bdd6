package cache

import (
	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"millrace/internal/rpcapi"
)

type metrics struct {
	calls     [rpcapi.Groups + 1][rpcapi.SourceBypass + 1]prometheus.Counter
	evictions prometheus.Counter
}

// newMetrics registers the cache's metrics; every label value exists from the start.
func newMetrics(reg prometheus.Registerer, entries *otter.Cache[key, *entry]) *metrics {
	f := promauto.With(reg)
	m := &metrics{evictions: f.NewCounter(prometheus.CounterOpts{
		Name: "millrace_gateway_cache_evictions_total", Help: "Answers dropped to make room.",
	})}
	calls := f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_gateway_cache_calls_total", Help: "Calls, by group of methods and by where the answer came from.",
	}, []string{"group", "source"})
	for g := range m.calls {
		for s := rpcapi.SourceHit; s <= rpcapi.SourceBypass; s++ {
			m.calls[g][s] = calls.WithLabelValues(rpcapi.Group(g).String(), s.String())
		}
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millrace_gateway_cache_bytes", Help: "Bytes that kept answers take, about.",
	}, func() float64 { return float64(entries.WeightedSize()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millrace_gateway_cache_capacity_bytes", Help: "Bytes that kept answers may take.",
	}, func() float64 { return float64(entries.GetMaximum()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millrace_gateway_cache_entries", Help: "Answers kept.",
	}, func() float64 { return float64(entries.EstimatedSize()) })
	return m
}

func (m *metrics) count(g rpcapi.Group, s rpcapi.Source) { m.calls[g][s].Inc() }
