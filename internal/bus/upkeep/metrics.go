package upkeep

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"millrace/internal/order"
	"millrace/subjects"
)

type backlogMetrics struct{ pending, unacked, oldest *prometheus.GaugeVec }

type classMetrics struct{ pending, unacked, oldest prometheus.Gauge }

func newBacklogMetrics(reg prometheus.Registerer) *backlogMetrics {
	gauge := func(name, help string) *prometheus.GaugeVec {
		return promauto.With(reg).NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"priority"})
	}
	return &backlogMetrics{
		pending: gauge("millrace_bus_queue_pending_orders", "Accepted orders that no worker has taken yet."),
		unacked: gauge("millrace_bus_queue_unacked_orders", "Accepted orders that workers hold."),
		oldest:  gauge("millrace_bus_queue_oldest_seconds", "Age of the oldest accepted order that is not validated."),
	}
}

func (m *backlogMetrics) class(p order.Priority) classMetrics {
	return classMetrics{
		pending: m.pending.WithLabelValues(p.String()),
		unacked: m.unacked.WithLabelValues(p.String()),
		oldest:  m.oldest.WithLabelValues(p.String()),
	}
}

func (m *classMetrics) set(pending uint64, unacked int, oldest time.Duration) {
	m.pending.Set(float64(pending))
	m.unacked.Set(float64(unacked))
	m.oldest.Set(oldest.Seconds())
}

type purgeMetrics struct {
	purged *prometheus.CounterVec
	gap    *prometheus.CounterVec
	lag    *prometheus.GaugeVec
}

func newPurgeMetrics(reg prometheus.Registerer) *purgeMetrics {
	f := promauto.With(reg)
	m := &purgeMetrics{
		purged: f.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_bus_purged_orders_total",
			Help: "Processed orders that were taken out of a stream.",
		}, []string{"stream"}),
		gap: f.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_bus_record_gap_orders_total",
			Help: "Orders that were purged while recording was paused, so RECORD lacks them.",
		}, []string{"priority"}),
		lag: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "millrace_bus_record_lag_orders",
			Help: "Accepted orders that RECORD has not copied yet.",
		}, []string{"priority"}),
	}
	for _, p := range order.Priorities {
		m.purged.WithLabelValues(subjects.StreamIn(p))
		m.purged.WithLabelValues(subjects.StreamOK(p))
		m.gap.WithLabelValues(p.String())
		m.lag.WithLabelValues(p.String())
	}
	return m
}

type guardMetrics struct {
	used, total            prometheus.Gauge
	doorClosed, recordStop prometheus.Gauge
}

func newGuardMetrics(reg prometheus.Registerer) *guardMetrics {
	gauge := func(name, help string) prometheus.Gauge {
		return promauto.With(reg).NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	return &guardMetrics{
		used:       gauge("millrace_bus_volume_used_bytes", "Bytes of the store's volume that are not available."),
		total:      gauge("millrace_bus_volume_size_bytes", "Size of the store's volume."),
		doorClosed: gauge("millrace_bus_door_closed", "One while the disk guard keeps the door closed."),
		recordStop: gauge("millrace_bus_record_paused", "One while the disk guard has stopped recording."),
	}
}
