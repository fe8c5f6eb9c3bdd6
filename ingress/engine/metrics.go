package engine

import (
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"millrace/internal/engineapi"
	"millrace/internal/listener"
)

// Outcomes of a call.
const (
	outcomeOK          = "ok"
	outcomeError       = "error"       // a JSON-RPC error
	outcomeHTTP        = "http_error"  // another status than 200
	outcomeUnreachable = "unreachable" // no or no whole answer
	outcomeTimeout     = "timeout"
	outcomeRefused     = "refused" // answered here
)

// Reasons why a caller was refused.
const (
	refusedMissing   = "missing"
	refusedMalformed = "malformed"
	refusedAlgorithm = "algorithm"
	refusedSignature = "signature"
	refusedExpired   = "expired"
	refusedIssue     = "no_issue"
	refusedStale     = "stale"
	refusedFuture    = "future"
	refusedSocket    = "forwarded_socket"
	refusedByPrimary = "primary"
)

type metrics struct {
	calls    map[string]map[string]prometheus.Counter // by method's label and outcome
	seconds  map[string]prometheus.Observer
	batches  prometheus.Observer
	refusals map[string]prometheus.Counter
	reloads  map[string]prometheus.Counter
	inflight prometheus.Gauge
	sockets  prometheus.Gauge
	resent   prometheus.Counter

	connState func(net.Conn, http.ConnState) // the server's
}

// newMetrics registers the door's metrics; every label value exists from the start.
func newMetrics(reg prometheus.Registerer, b *budget) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		calls:   make(map[string]map[string]prometheus.Counter),
		seconds: make(map[string]prometheus.Observer),
		inflight: f.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_engine_inflight_calls", Help: "Messages of the consensus client that the primary has not answered yet.",
		}),
		sockets: f.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_engine_websockets", Help: "Open WebSockets of consensus clients.",
		}),
		resent: f.NewCounter(prometheus.CounterOpts{
			Name: "millrace_engine_resent_total", Help: "Calls sent once more because a kept-alive connection was found closed.",
		}),
		refusals: labelled(f, "millrace_engine_auth_refusals_total", "Calls refused for their token.", "reason",
			refusedMissing, refusedMalformed, refusedAlgorithm, refusedSignature, refusedExpired,
			refusedIssue, refusedStale, refusedFuture, refusedSocket, refusedByPrimary),
		reloads: labelled(f, "millrace_engine_tls_reloads_total", "Attempts to read a changed certificate.", "outcome", "ok", "failed"),
	}
	m.perMethod(f)
	m.connState = listener.CountStates(f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_engine_connections_total", Help: "State changes of consensus clients' connections.",
	}, []string{"state"}))
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millrace_engine_inflight_bytes", Help: "Bytes reserved for request bodies in flight.",
	}, func() float64 { return float64(b.used()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millrace_engine_inflight_capacity_bytes", Help: "Bytes that request bodies in flight may reserve.",
	}, func() float64 { return float64(b.total) })
	return m
}

func (m *metrics) perMethod(f promauto.Factory) {
	calls := f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_engine_calls_total", Help: "Calls of the consensus client, by what became of them.",
	}, []string{"method", "outcome"})
	seconds := f.NewHistogramVec(prometheus.HistogramOpts{
		Name: "millrace_engine_call_seconds", Help: "Time from a call's dispatch to the end of the primary's answer.",
		Buckets: prometheus.ExponentialBuckets(250e-6, 2, 18),
	}, []string{"method"})
	for _, method := range append([]string{engineapi.MethodOther}, engineapi.Methods()...) {
		m.calls[method] = make(map[string]prometheus.Counter)
		for _, o := range []string{outcomeOK, outcomeError, outcomeHTTP, outcomeUnreachable, outcomeTimeout, outcomeRefused} {
			m.calls[method][o] = calls.WithLabelValues(method, o)
		}
		m.seconds[method] = seconds.WithLabelValues(method)
	}
	m.batches = f.NewHistogram(prometheus.HistogramOpts{
		Name: "millrace_engine_batch_seconds", Help: "The same of whole batches.",
		Buckets: prometheus.ExponentialBuckets(250e-6, 2, 18),
	})
}

func labelled(f promauto.Factory, name, help, label string, values ...string) map[string]prometheus.Counter {
	v := f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	m := make(map[string]prometheus.Counter, len(values))
	for _, value := range values {
		m[value] = v.WithLabelValues(value)
	}
	return m
}

func (m *metrics) called(method, outcome string) { m.calls[engineapi.Label(method)][outcome].Inc() }

// took observes the time of a call, or of a batch as a whole.
func (m *metrics) took(x *exchange, d time.Duration) {
	switch {
	case x.batch:
		m.batches.Observe(d.Seconds())
	case len(x.requests) == 1:
		m.seconds[engineapi.Label(x.requests[0].Method)].Observe(d.Seconds())
	}
}

func outcomeOf(r *engineapi.Result) string {
	switch {
	case r.HTTPStatus != http.StatusOK:
		return outcomeHTTP
	case r.Code != 0:
		return outcomeError
	}
	return outcomeOK
}
