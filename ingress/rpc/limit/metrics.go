package limit

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// scope is whose limit it is.
type scope uint8

const (
	scopeIP scope = iota + 1
	scopeKey
	scopeAll
)

const scopes = 3

// metrics are the limiter's series; every label value exists from the start.
type metrics struct {
	refused  [scopes + 1][2]prometheus.Counter // by scope; of the total, of a method
	evicted  prometheus.Counter
	clients  prometheus.Gauge
	peers    prometheus.Gauge
	failures prometheus.Counter
	garbled  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	refused := f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_gateway_limited_total", Help: "Calls that a limit refused, by whose limit it was and whether it was one of a method.",
	}, []string{"scope", "of"})
	m := &metrics{
		evicted:  f.NewCounter(prometheus.CounterOpts{Name: "millrace_gateway_limit_evicted_total", Help: "Addresses and keys that were forgotten to make room for others."}),
		clients:  f.NewGauge(prometheus.GaugeOpts{Name: "millrace_gateway_limit_clients", Help: "Addresses and keys that are remembered."}),
		peers:    f.NewGauge(prometheus.GaugeOpts{Name: "millrace_gateway_limit_peers", Help: "Other processes that share the limits."}),
		failures: f.NewCounter(prometheus.CounterOpts{Name: "millrace_gateway_limit_gossip_failures_total", Help: "Times that other processes could not be told or heard; limits are not shared meanwhile."}),
		garbled:  f.NewCounter(prometheus.CounterOpts{Name: "millrace_gateway_limit_gossip_unreadable_total", Help: "Messages of other processes that could not be read."}),
	}
	for s, name := range map[scope]string{scopeIP: "ip", scopeKey: "key", scopeAll: "all"} {
		m.refused[s] = [2]prometheus.Counter{refused.WithLabelValues(name, "total"), refused.WithLabelValues(name, "method")}
	}
	return m
}
