package peers

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"millrace/internal/order"
)

// receiverMetrics are a Receiver's collectors; a peer's label values exist from its first message to Forget.
type receiverMetrics struct {
	latency                           *prometheus.HistogramVec
	offset                            *prometheus.GaugeVec
	received, repeats, dropped, bytes *prometheus.CounterVec
}

func newReceiverMetrics(reg prometheus.Registerer) *receiverMetrics {
	f := promauto.With(reg)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "millrace_peer_" + name, Help: help}, labels)
	}
	return &receiverMetrics{
		latency: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "millrace_peer_latency_seconds",
			Help:    "One way from the peer's sending to our receiving, less what the clocks are apart as far as that can be told.",
			Buckets: []float64{.001, .0025, .005, .01, .02, .03, .045, .06, .08, .1, .125, .15, .2, .3, .5, 1, 2.5, 5, 10, 36},
		}, []string{"peer"}),
		offset: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "millrace_peer_clock_offset_seconds", Help: "What our clock is ahead of the peer's at least, 0 while that can't be told from the transit time.",
		}, []string{"peer"}),
		received: counter("received_total", "Orders of the peer that were stored, by the class that they have here.", "peer", "class"),
		repeats:  counter("repeats_total", "Messages of the peer that were stored before.", "peer"),
		dropped:  counter("dropped_total", "Orders of the peer that were dropped, by reason.", "peer", "reason"),
		bytes:    counter("received_bytes_total", "Bodies that the peer sent, dropped ones included.", "peer"),
	}
}

// peerMetrics are one peer's, looked up once.
type peerMetrics struct {
	latency        prometheus.Observer
	offset         prometheus.Gauge
	received       [order.PriorityLow + 1]prometheus.Counter
	dropped        [len(dropNames)]prometheus.Counter
	repeats, bytes prometheus.Counter
}

func (m *receiverMetrics) of(peer string) *peerMetrics {
	p := &peerMetrics{
		latency: m.latency.WithLabelValues(peer), offset: m.offset.WithLabelValues(peer),
		repeats: m.repeats.WithLabelValues(peer), bytes: m.bytes.WithLabelValues(peer),
	}
	for _, c := range order.Priorities {
		p.received[c] = m.received.WithLabelValues(peer, c.String())
	}
	for d := DropOversized; int(d) < len(dropNames); d++ {
		p.dropped[d] = m.dropped.WithLabelValues(peer, d.String())
	}
	return p
}

func (m *receiverMetrics) forget(peer string) {
	l := prometheus.Labels{"peer": peer}
	m.latency.DeletePartialMatch(l)
	m.offset.DeletePartialMatch(l)
	for _, c := range []*prometheus.CounterVec{m.received, m.repeats, m.dropped, m.bytes} {
		c.DeletePartialMatch(l)
	}
}
