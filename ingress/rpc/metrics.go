package rpc

import (
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"millrace/internal/listener"
	"millrace/internal/rpcapi"
)

// dialect indexes metrics by Dialect; a jsonrpc listener has requests of both.
type dialect uint8

const (
	dialectPrio dialect = iota + 1
	dialectJSONRPC

	dialects = dialectJSONRPC
)

// result indexes metrics by what became of a call.
type result uint8

const (
	callAnswered result = iota // by a node or the cache, also with an error of the node's in JSON-RPC
	callFailed
	callRefused // sent nowhere

	results = callRefused + 1
)

// statuses are the classes of HTTP statuses: 0 is for WebSockets, which have none.
const statuses = 6

type metrics struct {
	requests [dialects + 1][rpcapi.Classes + 1][statuses]prometheus.Counter
	seconds  [dialects + 1][rpcapi.Classes + 1]prometheus.Observer
	in, out  [dialects + 1]prometheus.Counter
	errors   [dialects + 1]map[rpcapi.Reason]prometheus.Counter
	calls    map[string]*[results]prometheus.Counter // jsonrpc only, by method's label
	reloads  map[string]prometheus.Counter

	connState func(net.Conn, http.ConnState) // the server's
}

// newMetrics registers the door's metrics; every label value exists from the start.
func newMetrics(reg prometheus.Registerer, d *Door) *metrics {
	f := promauto.With(reg)
	m := &metrics{}
	served := []dialect{dialectPrio}
	if d.policy.Load().Dialect == DialectJSONRPC {
		served = append(served, dialectJSONRPC)
		m.perMethod(f)
	}
	m.perDialect(f, served)
	reloads := f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_gateway_tls_reloads_total", Help: "Attempts to read a changed certificate.",
	}, []string{"outcome"})
	m.reloads = map[string]prometheus.Counter{"ok": reloads.WithLabelValues("ok"), "failed": reloads.WithLabelValues("failed")}
	m.connState = listener.CountStates(f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_gateway_connections_total", Help: "State changes of clients' connections.",
	}, []string{"state"}))
	gauge := func(name, help string, value func() int64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	gauge("millrace_gateway_inflight_requests", "Requests and WebSocket messages that are not answered yet.", d.inflight.Load)
	gauge("millrace_gateway_inflight_bytes", "Bytes reserved for request bodies in flight.", d.budget.inUse.Load)
	gauge("millrace_gateway_inflight_capacity_bytes", "Bytes that request bodies in flight may reserve.", d.budget.total.Load)
	return m
}

func (m *metrics) perDialect(f promauto.Factory, served []dialect) {
	requests := f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_gateway_requests_total", Help: "Requests and WebSocket messages that were answered.",
	}, []string{"dialect", "class", "status"})
	seconds := f.NewHistogramVec(prometheus.HistogramOpts{
		Name: "millrace_gateway_request_seconds", Help: "Time from a request's headers to its answer.",
		Buckets: prometheus.ExponentialBuckets(50e-6, 2, 18),
	}, []string{"dialect", "class"})
	bytesIn := f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_gateway_request_bytes_total", Help: "Bytes of request bodies.",
	}, []string{"dialect"})
	bytesOut := f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_gateway_response_bytes_total", Help: "Bytes of answers, before compression.",
	}, []string{"dialect"})
	failed := f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_gateway_errors_total", Help: "Requests that were answered with an error, or batches with one in them, by reason.",
	}, []string{"dialect", "reason"})
	for _, di := range served {
		name := di.String()
		m.in[di], m.out[di] = bytesIn.WithLabelValues(name), bytesOut.WithLabelValues(name)
		for c := rpcapi.FastTrack; c <= rpcapi.Low; c++ {
			m.seconds[di][c] = seconds.WithLabelValues(name, c.String())
			for s, status := range [statuses]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"} {
				m.requests[di][c][s] = requests.WithLabelValues(name, c.String(), status)
			}
		}
		m.errors[di] = make(map[rpcapi.Reason]prometheus.Counter)
		for _, r := range reasons() {
			m.errors[di][r] = failed.WithLabelValues(name, string(r))
		}
	}
}

func (m *metrics) perMethod(f promauto.Factory) {
	calls := f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_gateway_calls_total", Help: "Calls whose method was read, by what became of them.",
	}, []string{"method", "result"})
	m.calls = make(map[string]*[results]prometheus.Counter)
	for _, label := range rpcapi.Labels() {
		var c [results]prometheus.Counter
		for r, name := range [results]string{"answered", "failed", "refused"} {
			c[r] = calls.WithLabelValues(label, name)
		}
		m.calls[label] = &c
	}
}

// reasons are all that an error has.
func reasons() []rpcapi.Reason {
	return []rpcapi.Reason{
		rpcapi.ReasonRateLimited, rpcapi.ReasonQueueFull, rpcapi.ReasonQueueTimeout, rpcapi.ReasonNodeTimeout,
		rpcapi.ReasonNoNode, rpcapi.ReasonUnreachable, rpcapi.ReasonNodeError, rpcapi.ReasonTooLarge,
		rpcapi.ReasonBatchTooLarge, rpcapi.ReasonMethodDenied, rpcapi.ReasonFilter, rpcapi.ReasonAnswer,
		rpcapi.ReasonCanceled, rpcapi.ReasonStopping, rpcapi.ReasonInvalid, rpcapi.ReasonInternal,
	}
}

// String is the dialect as it stands in metrics.
func (d dialect) String() string {
	if d == dialectJSONRPC {
		return string(DialectJSONRPC)
	}
	return string(DialectPrio)
}

// request counts one that was answered.
func (m *metrics) request(x *message, out int) {
	status := x.status / 100
	if x.carrier == overSocket || status >= statuses {
		status = 0
	}
	m.requests[x.dialect][x.client.Class][status].Inc()
	m.seconds[x.dialect][x.client.Class].Observe(x.elapsed.Seconds())
	m.in[x.dialect].Add(float64(len(x.body.data)))
	m.out[x.dialect].Add(float64(out))
	if x.reason != "" {
		m.errors[x.dialect][x.reason].Inc()
	}
}

// called counts one call.
func (m *metrics) called(label string, r result) {
	if c := m.calls[label]; c != nil {
		c[r].Inc()
	}
}
