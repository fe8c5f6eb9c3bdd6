package workers

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"millrace/internal/order"
)

// verdictValid is the verdict label of an order without a reason against it.
const verdictValid = "valid"

type metrics struct {
	verdicts               map[order.Code]prometheus.Counter // key zero: valid
	queued, validate       map[order.Priority]prometheus.Observer
	txs                    prometheus.Observer
	inSlot                 prometheus.Gauge
	aside                  prometheus.Counter
	suspects, poisoned     prometheus.Counter
	panics, mismatches     prometheus.Counter
	repeats, verdictErrors prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "millrace_worker_" + name, Help: help})
	}
	verdicts := f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_worker_validated_total",
		Help: "Orders settled by the workers, by verdict.",
	}, []string{"verdict"})
	stages := stageSeconds(reg)
	m := &metrics{
		verdicts: map[order.Code]prometheus.Counter{0: verdicts.WithLabelValues(verdictValid)},
		queued:   make(map[order.Priority]prometheus.Observer),
		validate: make(map[order.Priority]prometheus.Observer),
		txs: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "millrace_worker_order_transactions",
			Help:    "Transactions per validated order.",
			Buckets: []float64{0, 1, 2, 4, 8, 16, 32, 64, 128},
		}),
		inSlot: f.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_worker_in_slot",
			Help: "Orders in validation now, those that gave way included.",
		}),
		aside:         counter("checks_aside_total", "Blob transactions checked beside their slot, known ones included."),
		suspects:      counter("suspects_total", "Orders that ran alone because they came back too often."),
		poisoned:      counter("poisoned_total", "Orders given up because they killed a worker or panicked, alone."),
		panics:        counter("panics_total", "Panics recovered while validating."),
		mismatches:    counter("identity_mismatches_total", "Orders whose stored identity is not that of their bytes."),
		repeats:       counter("repeats_total", "Orders that came back and had their end before: in OK, or a record."),
		verdictErrors: counter("verdicts_unsent_total", "Verdicts that could not be sent to the waiting door."),
	}
	for _, c := range order.Codes() {
		m.verdicts[c] = verdicts.WithLabelValues(c.String())
	}
	for _, p := range order.Priorities {
		m.queued[p] = stages.WithLabelValues("queue_in", p.String())
		m.validate[p] = stages.WithLabelValues("validate", p.String())
	}
	return m
}

// stageSeconds returns the histogram that all stages of one process share: whoever comes first
// registers it.
func stageSeconds(reg prometheus.Registerer) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "millrace_order_stage_seconds",
		Help:    "Time an order spends in a stage: queue_in from stored (tapped: from handed over, its store still under way) to a worker's slot, validate in the slot without what went before it there.",
		Buckets: prometheus.ExponentialBuckets(10e-6, 2, 22),
	}, []string{"stage", "priority"})
	err := reg.Register(h)
	if there, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if shared, ok := there.ExistingCollector.(*prometheus.HistogramVec); ok {
			return shared
		}
	}
	return h
}

// settled counts one order that needs no more work.
func (m *metrics) settled(r *order.Reason) {
	var code order.Code
	if r != nil {
		code = r.Code
	}
	if c := m.verdicts[code]; c != nil {
		c.Inc()
	}
}

// waited observes how long d waited for a slot: since it was handed over, or since it was stored.
func (m *metrics) waited(d order.Delivery, now time.Time) {
	o := m.queued[d.Order.Priority]
	switch {
	case o == nil:
	case !d.TappedAt.IsZero():
		o.Observe(time.Since(d.TappedAt).Seconds())
	case !d.StoredAt.IsZero():
		o.Observe(max(now.Sub(d.StoredAt), 0).Seconds())
	}
}

func (m *metrics) validated(p order.Priority, took time.Duration) {
	if o := m.validate[p]; o != nil {
		o.Observe(took.Seconds())
	}
}
