package peers

import (
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"millrace/internal/listener"
)

// metrics are the door's collectors; every label value exists from the start. What is received is counted, by peer, by
// who receives it.
type metrics struct {
	outcomes  [len(failureNames)]prometheus.Counter
	seconds   prometheus.Observer
	reloads   map[string]prometheus.Counter
	connState func(net.Conn, http.ConnState)
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help, label string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "millrace_peer_door_" + name, Help: help}, []string{label})
	}
	m := &metrics{
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "millrace_peer_door_request_seconds", Help: "Time of a request at the system door, from its headers to its answer.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		connState: listener.CountStates(counter("connections_total", "State changes of connections to the system door.", "state")),
		reloads:   map[string]prometheus.Counter{},
	}
	outcomes := counter("requests_total", "Requests at the system door, by outcome.", "outcome")
	for i, name := range failureNames {
		m.outcomes[i] = outcomes.WithLabelValues(name)
	}
	reloads := counter("tls_reloads_total", "Attempts to read a changed certificate.", "outcome")
	for _, outcome := range []string{"ok", "failed"} {
		m.reloads[outcome] = reloads.WithLabelValues(outcome)
	}
	return m
}
