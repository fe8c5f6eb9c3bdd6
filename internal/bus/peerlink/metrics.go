package peerlink

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"millrace/internal/order"
)

// Directions, from our point of view.
const (
	directionServing  = "serving"  // it fetches from us
	directionFetching = "fetching" // we fetch from it
)

// Why orders were missed.
const reasonPurged = "purged" // they left the stream before they were taken: by age, size or housekeeping

type metrics struct {
	connected *prometheus.GaugeVec
	rtt       *prometheus.GaugeVec
	lag       *prometheus.GaugeVec
	missed    *prometheus.CounterVec
	refused   *prometheus.CounterVec
	expires   *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return f.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		connected: gauge("millrace_peers_connected", "Whether a peer's leafnode connection is there.", "peer", "direction", "lane"),
		rtt:       gauge("millrace_peers_rtt_seconds", "Round trip to a peer over its leafnode connection.", "peer", "direction", "lane"),
		lag:       gauge("millrace_peers_lag_orders", "Orders that one side has and the other has not fetched yet.", "peer", "direction", "priority"),
		missed: f.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_peers_missed_total", Help: "Sequences that left a stream before they were taken, at most that many orders.",
		}, []string{"peer", "direction", "priority", "reason"}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_peers_refused_handshakes_total", Help: "Leafnode connections that were refused, by reason.",
		}, []string{"reason"}),
		expires: gauge("millrace_peers_certificate_expiry_seconds", "When the certificate that a peer showed last ends, in Unix time.", "peer"),
	}
	for _, r := range refusals() {
		m.refused.WithLabelValues(r)
	}
	return m
}

// add makes a peer's series, so that zero is visible; a round trip is zero without a connection.
func (m *metrics) add(peer string) {
	for _, d := range []string{directionServing, directionFetching} {
		for _, ln := range lanes {
			m.connected.WithLabelValues(peer, d, ln.String())
			m.rtt.WithLabelValues(peer, d, ln.String())
		}
		for _, c := range order.Priorities {
			m.lag.WithLabelValues(peer, d, c.String())
			m.missed.WithLabelValues(peer, d, c.String(), reasonPurged)
		}
	}
}

func (m *metrics) remove(peer string) {
	of := prometheus.Labels{"peer": peer}
	for _, v := range []*prometheus.GaugeVec{m.connected, m.rtt, m.lag, m.expires} {
		v.DeletePartialMatch(of)
	}
	m.missed.DeletePartialMatch(of)
}
