package socket

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Why a connection was refused, or ended.
const (
	refusedPerIP     = "per_ip"
	refusedTotal     = "total"
	refusedStopping  = "stopping"
	refusedHandshake = "handshake"

	endedClient  = "client"  // it closed, or it is gone
	endedSlow    = "slow"    // it did not take what was sent
	endedDead    = "dead"    // it said nothing for too long
	endedTooBig  = "too_big" // its message was
	endedFeed    = "feed"    // a subscription could not go on
	endedDrained = "drained" // the gateway stopped
)

type metrics struct {
	open          prometheus.Gauge
	subscriptions prometheus.Gauge
	refused       map[string]prometheus.Counter
	ended         map[string]prometheus.Counter
	received      prometheus.Counter
	replies       prometheus.Counter
	notifications prometheus.Counter
	queued        prometheus.Gauge
}

// newMetrics registers the package's metrics; every label value exists from the start.
func newMetrics(reg prometheus.Registerer, cfg *Config) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		open: f.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_gateway_socket_connections", Help: "Open WebSockets of clients.",
		}),
		subscriptions: f.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_gateway_socket_subscriptions", Help: "Subscriptions of clients.",
		}),
		refused: labelled(f, "millrace_gateway_socket_refused_total", "Connections refused before they were WebSockets.", "reason",
			refusedPerIP, refusedTotal, refusedStopping, refusedHandshake),
		ended: labelled(f, "millrace_gateway_socket_ended_total", "WebSockets ended, by why.", "reason",
			endedClient, endedSlow, endedDead, endedTooBig, endedFeed, endedDrained),
		received: f.NewCounter(prometheus.CounterOpts{
			Name: "millrace_gateway_socket_received_total", Help: "Messages of clients.",
		}),
		queued: f.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_gateway_socket_queue_bytes", Help: "Bytes in the send queues of all connections.",
		}),
	}
	sent := labelled(f, "millrace_gateway_socket_sent_total", "Messages put into send queues.", "kind", "reply", "notification")
	m.replies, m.notifications = sent["reply"], sent["notification"]
	f.NewGauge(prometheus.GaugeOpts{
		Name: "millrace_gateway_socket_queue_capacity_bytes", Help: "Bytes that the send queue of one connection holds.",
	}).Set(float64(cfg.QueueBytes))
	return m
}

func labelled(f promauto.Factory, name, help, label string, values ...string) map[string]prometheus.Counter {
	v := f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	m := make(map[string]prometheus.Counter, len(values))
	for _, value := range values {
		m[value] = v.WithLabelValues(value)
	}
	return m
}
