package egress

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

// metrics are the loops' collectors; a target's label values exist from its start to its end.
type metrics struct {
	wireToWire, stage, appendSeconds, batchSize    *prometheus.HistogramVec
	delivered, refused, expired, terminal          *prometheus.CounterVec
	attempts, received, ackErrors, appendErrors    *prometheus.CounterVec
	onWire, waiting, unrecorded, cached, up, owned *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	latency := []float64{.0002, .0005, .001, .002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 36}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return f.NewHistogramVec(prometheus.HistogramOpts{Name: "millrace_" + name, Help: help, Buckets: buckets}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "millrace_" + name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return f.NewGaugeVec(prometheus.GaugeOpts{Name: "millrace_" + name, Help: help}, labels)
	}
	return &metrics{
		wireToWire:    histogram("order_wire_to_wire_seconds", "From an order's first byte at the door to the first byte of the request to the target.", latency, "priority", "target"),
		stage:         histogram("egress_stage_seconds", "Time of an order in the last stage: queue is from stored to the request, send is the request with its answer.", latency, "stage", "priority", "target"),
		appendSeconds: histogram("egress_ledger_append_seconds", "Time to store one batch of terminal records.", latency, "target"),
		batchSize:     histogram("egress_ledger_batch_entries", "Terminal records in one batch.", prometheus.ExponentialBuckets(1, 2, 9), "target"),
		delivered:     counter("order_delivered_total", "Orders that the target took.", "target"),
		refused:       counter("order_refused_total", "Orders that the target refused.", "target"),
		expired:       counter("order_expired_total", "Orders that reached their deadline before the target took them.", "target"),
		terminal:      counter("order_terminal_total", "Terminal records by outcome.", "target", "outcome"),
		attempts:      counter("egress_requests_total", "Requests to the target by verdict.", "target", "verdict"),
		received:      counter("egress_received_total", "Orders taken from the store.", "target"),
		ackErrors:     counter("egress_ack_errors_total", "Acknowledgements that could not be sent; the record is what counts.", "target"),
		appendErrors:  counter("egress_ledger_append_errors_total", "Writes of terminal records that were repeated.", "target"),
		onWire:        gauge("egress_in_flight", "Requests on the wire.", "target", "priority"),
		waiting:       gauge("egress_backlog", "Orders taken from the store whose end is not recorded yet.", "target", "priority"),
		unrecorded:    gauge("egress_unrecorded", "Orders that ended and wait for their record.", "target"),
		cached:        gauge("egress_cached_bytes", "Bodies of waiting orders in memory.", "target"),
		up:            gauge("egress_target_up", "1 when the target answers, 0 when it is probed.", "target"),
		owned:         gauge("egress_target_owned", "1 when this process delivers to the target.", "target"),
	}
}

func (m *metrics) vecs() []interface {
	DeletePartialMatch(labels prometheus.Labels) int
} {
	return []interface {
		DeletePartialMatch(labels prometheus.Labels) int
	}{
		m.wireToWire, m.stage, m.appendSeconds, m.batchSize, m.delivered, m.refused, m.expired, m.terminal,
		m.attempts, m.received, m.ackErrors, m.appendErrors, m.onWire, m.waiting, m.unrecorded, m.cached, m.up, m.owned,
	}
}

// forget deletes a target's label values.
func (m *metrics) forget(target string) {
	for _, v := range m.vecs() {
		v.DeletePartialMatch(prometheus.Labels{"target": target})
	}
}

// targetMetrics are one target's, looked up once.
type targetMetrics struct {
	wireToWire, queue, send           [classes]prometheus.Observer
	onWire, backlog                   [classes]prometheus.Gauge
	outcomes                          [ledger.TargetRemoved + 1]prometheus.Counter
	attempts                          [Lost + 1]prometheus.Counter
	appendSeconds, batchSize          prometheus.Observer
	delivered, refused, expired       prometheus.Counter
	received, ackErrors, appendErrors prometheus.Counter
	unrecorded, cached, up, owned     prometheus.Gauge
}

func (m *metrics) of(target string) *targetMetrics {
	t := &targetMetrics{
		appendSeconds: m.appendSeconds.WithLabelValues(target), batchSize: m.batchSize.WithLabelValues(target),
		delivered: m.delivered.WithLabelValues(target), refused: m.refused.WithLabelValues(target),
		expired: m.expired.WithLabelValues(target), received: m.received.WithLabelValues(target),
		ackErrors: m.ackErrors.WithLabelValues(target), appendErrors: m.appendErrors.WithLabelValues(target),
		unrecorded: m.unrecorded.WithLabelValues(target), cached: m.cached.WithLabelValues(target),
		up: m.up.WithLabelValues(target), owned: m.owned.WithLabelValues(target),
	}
	for _, p := range order.Priorities {
		t.wireToWire[p] = m.wireToWire.WithLabelValues(p.String(), target)
		t.queue[p] = m.stage.WithLabelValues("queue", p.String(), target)
		t.send[p] = m.stage.WithLabelValues("send", p.String(), target)
		t.onWire[p] = m.onWire.WithLabelValues(target, p.String())
		t.backlog[p] = m.waiting.WithLabelValues(target, p.String())
	}
	for _, o := range ledger.Outcomes() {
		t.outcomes[o] = m.terminal.WithLabelValues(target, o.String())
	}
	for v := Accepted; v <= Lost; v++ {
		t.attempts[v] = m.attempts.WithLabelValues(target, v.String())
	}
	return t
}

// observe measures one request; local is the local clock's reading at r.started.
func (t *targetMetrics) observe(s *shipment, r *sent, local time.Time) {
	t.send[s.p].Observe(time.Since(local).Seconds())
	if r.res.FirstByte.IsZero() || s.attempt.Number > 1 || s.attempt.Repeat {
		return
	}
	at := r.started.Add(r.res.FirstByte.Sub(local))
	t.wireToWire[s.p].Observe(max(at.Sub(s.attempt.Order.ReceivedAt).Seconds(), 0))
	t.queue[s.p].Observe(max(at.Sub(s.storedAt.time()).Seconds(), 0))
}

func (t *targetMetrics) ended(e *ledger.Entry) {
	t.outcomes[e.Outcome].Inc()
	switch e.Outcome {
	case ledger.Delivered:
		t.delivered.Inc()
	case ledger.Refused:
		t.refused.Inc()
	case ledger.Expired:
		t.expired.Inc()
	default:
	}
}

// levels publishes how much waits.
func (t *targetMetrics) levels(l *loop) {
	for _, p := range order.Priorities {
		t.backlog[p].Set(float64(l.waiting[p]))
	}
	t.unrecorded.Set(float64(l.recorder.len() + len(l.recorder.writing)))
	t.cached.Set(float64(l.cached))
}

func (t *targetMetrics) setDown() { t.up.Set(0) }
func (t *targetMetrics) setUp()   { t.up.Set(1) }
