package ingress

import (
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"millrace/internal/listener"
	"millrace/internal/order"
)

// stage is a part of a request's way through the door.
type stage uint8

// The stages, in order.
const (
	stageBody stage = iota
	stageGate
	stageVerify
	stageDecode
	stagePublish
	stageVerdict
	stages
)

// bigBody is where size_class splits, in bytes.
const bigBody = 50_000

type metrics struct {
	accepted [len(order.Priorities) + 1]map[order.Method]prometheus.Counter
	rejected map[string]prometheus.Counter
	repeats  prometheus.Counter
	late     prometheus.Counter
	stages   [stages]prometheus.Observer
	small    prometheus.Observer
	big      prometheus.Observer
	stats    map[string]prometheus.Counter
	reloads  map[string]prometheus.Counter

	connState map[string]func(net.Conn, http.ConnState) // the servers', by listener
}

// newMetrics registers the door's metrics; every label value exists from the start.
func newMetrics(reg prometheus.Registerer, s *Server) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		rejected:  make(map[string]prometheus.Counter),
		connState: make(map[string]func(net.Conn, http.ConnState)),
		repeats: f.NewCounter(prometheus.CounterOpts{
			Name: "millrace_ingress_repeats_total", Help: "Orders answered with the outcome of an earlier or concurrent call.",
		}),
		late: f.NewCounter(prometheus.CounterOpts{
			Name: "millrace_ingress_late_refusals_total", Help: "Orders refused by a worker after the door had answered success.",
		}),
	}
	buckets := prometheus.ExponentialBuckets(20e-6, 2, 18)
	m.orders(f)
	stage := f.NewHistogramVec(prometheus.HistogramOpts{
		Name: "millrace_ingress_stage_seconds", Help: "Time in one stage of the order door.", Buckets: buckets,
	}, []string{"stage"})
	for i, name := range [stages]string{"body", "gate", "verify", "decode", "publish", "verdict"} {
		m.stages[i] = stage.WithLabelValues(name)
	}
	request := f.NewHistogramVec(prometheus.HistogramOpts{
		Name: "millrace_ingress_request_seconds", Help: "Time from a request's first byte to its answer.", Buckets: buckets,
	}, []string{"size_class"})
	m.small, m.big = request.WithLabelValues("small"), request.WithLabelValues("big")
	conns := f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_http_connections_total", Help: "State changes of HTTP connections.",
	}, []string{"listener", "state"})
	for _, name := range []string{listenerOrders, listenerBuilder} {
		m.connState[name] = listener.CountStates(conns.MustCurryWith(prometheus.Labels{"listener": name}))
	}
	m.stats = outcomes(f, "millrace_ingress_builder_stats_total", "Entities in statistics posted by the builder.", "applied", "malformed")
	m.reloads = outcomes(f, "millrace_ingress_tls_reloads_total", "Attempts to read a changed certificate.", "ok", "failed")
	gauges(f, s)
	return m
}

func (m *metrics) orders(f promauto.Factory) {
	accepted := f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_order_accepted_total", Help: "Orders answered with success.",
	}, []string{"method", "priority"})
	for _, p := range order.Priorities {
		m.accepted[p] = make(map[order.Method]prometheus.Counter)
		for meth := order.MethodSendBundle; meth <= order.MethodSendPrivateRawTransaction; meth++ {
			m.accepted[p][meth] = accepted.WithLabelValues(meth.String(), p.String())
		}
	}
	rejected := f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_order_rejected_total", Help: "Orders and requests answered with an error, by reason.",
	}, []string{"reason"})
	for _, c := range order.Codes() {
		m.rejected[c.String()] = rejected.WithLabelValues(c.String())
	}
	for _, name := range denials() {
		if name != "" {
			m.rejected[name] = rejected.WithLabelValues(name)
		}
	}
}

func outcomes(f promauto.Factory, name, help string, values ...string) map[string]prometheus.Counter {
	v := f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"outcome"})
	m := make(map[string]prometheus.Counter, len(values))
	for _, value := range values {
		m[value] = v.WithLabelValues(value)
	}
	return m
}

// gauges registers the length and capacity of everything bounded.
func gauges(f promauto.Factory, s *Server) {
	gauge := func(name, help string, value func() int64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	gauge("millrace_ingress_inflight_bytes", "Bytes reserved for bodies in flight.", s.inflight.used)
	gauge("millrace_ingress_inflight_capacity_bytes", "Bytes that bodies in flight may reserve.", func() int64 { return s.inflight.total })
	gauge("millrace_ingress_gate_waiting", "Requests waiting for a CPU.", func() int64 { return int64(s.gate.waiting()) })
	gauge("millrace_ingress_gate_places", "Requests of unknown senders that may be handled at once; the busier the CPUs, the fewer.", func() int64 { return int64(s.gate.sized(lotUnknown)) })
	gauge("millrace_ingress_gate_low_places", "Requests of mostly low senders that may be handled at once; the busier the CPUs, the fewer.", func() int64 { return int64(s.gate.sized(lotLow)) })
	gauge("millrace_ingress_gate_low_rest_microseconds", "How long a place of a mostly low sender rests after a request; zero unless the CPUs are crowded.", func() int64 { return s.gate.lowRest().Microseconds() })
	gauge("millrace_ingress_gate_capacity", "Requests that may wait for a CPU.", func() int64 { return int64(s.gate.limit) })
	gauge("millrace_ingress_verdicts_waiting", "Orders waiting for their verdict.", func() int64 { return int64(s.waiters.len()) })
	gauge("millrace_ingress_entities", "Signers whose activity is remembered.", func() int64 {
		if m := s.memory.Load(); m != nil {
			return int64(m.entities.EstimatedSize())
		}
		return 0
	})
}

// since records the time in stage st that began at start and returns the present.
func (m *metrics) since(st stage, start time.Time) time.Time {
	now := time.Now()
	m.stages[st].Observe(now.Sub(start).Seconds())
	return now
}

func (m *metrics) request(size int, d time.Duration) {
	if size >= bigBody {
		m.big.Observe(d.Seconds())
		return
	}
	m.small.Observe(d.Seconds())
}

// reject counts one refusal; label comes from faultOf and so is from the closed set.
func (m *metrics) reject(label string) {
	if c, ok := m.rejected[label]; ok {
		c.Inc()
	}
}
