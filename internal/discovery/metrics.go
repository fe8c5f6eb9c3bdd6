package discovery

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are those of the sources that are configured.
type metrics struct {
	success *prometheus.GaugeVec
	errors  *prometheus.CounterVec
	peers   *prometheus.GaugeVec
	skipped *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		success: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "millrace_discovery_last_success_timestamp_seconds",
			Help: "When a source of peers gave its last good set; 0: not yet.",
		}, []string{"source"}),
		errors: f.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_discovery_errors_total",
			Help: "Failures of a source of peers, by reason; its last good set was kept.",
		}, []string{"source", "reason"}),
		peers: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "millrace_discovery_peers",
			Help: "Peers that are known, by the source whose entry is used.",
		}, []string{"source"}),
		skipped: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "millrace_discovery_skipped_entries",
			Help: "Entries of a source's last good set that are left out, by reason.",
		}, []string{"source", "reason"}),
	}
}

// show makes a source's series, so that zeros can be seen.
func (m *metrics) show(s Source) {
	m.success.WithLabelValues(s.String())
	m.peers.WithLabelValues(s.String())
	for _, r := range faultTable {
		m.errors.WithLabelValues(s.String(), r.label)
	}
	m.skip(s, nil)
}

func (m *metrics) skip(s Source, skips []Skip) {
	n := map[string]int{}
	for _, skip := range skips {
		n[entryReason(skip.Err)]++
	}
	for _, r := range entryTable {
		m.skipped.WithLabelValues(s.String(), r.label).Set(float64(n[r.label]))
	}
}

// registerMetrics are those of registering with a hub.
type registerMetrics struct {
	registered prometheus.Gauge
	errors     *prometheus.CounterVec
}

func newRegisterMetrics(reg prometheus.Registerer) *registerMetrics {
	f := promauto.With(reg)
	r := &registerMetrics{
		registered: f.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_discovery_registered",
			Help: "Whether the builder hub took our key and certificate, 1 or 0.",
		}),
		errors: f.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_discovery_registration_errors_total",
			Help: "Tries to register with the builder hub that failed, by reason.",
		}, []string{"reason"}),
	}
	for _, x := range faultTable {
		r.errors.WithLabelValues(x.label)
	}
	return r
}

func (r *registerMetrics) note(err error) {
	if err != nil {
		r.registered.Set(0)
		r.errors.WithLabelValues(faultReason(err)).Inc()
		return
	}
	r.registered.Set(1)
}
