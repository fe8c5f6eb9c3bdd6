package dispatch

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"millrace/internal/rpcapi"
)

type metrics struct {
	wait     perClass[prometheus.Observer]
	refused  perClass[map[rpcapi.Reason]prometheus.Counter]
	capacity perClass[prometheus.Gauge]
}

func newMetrics(reg prometheus.Registerer, d *Dispatcher) *metrics {
	f := promauto.With(reg)
	wait := f.NewHistogramVec(prometheus.HistogramOpts{
		Name: "millrace_gateway_queue_wait_seconds", Help: "How long calls waited for a place; 0 if one was free.",
		Buckets: []float64{0, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"class"})
	refused := f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_gateway_queue_refused_total", Help: "Calls that got no place.",
	}, []string{"class", "reason"})
	capacity := f.NewGaugeVec(prometheus.GaugeOpts{
		Name: "millrace_gateway_queue_capacity", Help: "How many calls may wait; 0: any number.",
	}, []string{"class"})
	m := &metrics{}
	for c := rpcapi.FastTrack; c <= rpcapi.Low; c++ {
		f.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "millrace_gateway_queue_length", Help: "Calls that wait.", ConstLabels: prometheus.Labels{"class": c.String()},
		}, func() float64 { return float64(d.Waiting(c)) })
		m.capacity[c] = capacity.WithLabelValues(c.String())
		m.wait[c] = wait.WithLabelValues(c.String())
		m.refused[c] = map[rpcapi.Reason]prometheus.Counter{}
		for _, r := range []rpcapi.Reason{
			rpcapi.ReasonQueueFull, rpcapi.ReasonQueueTimeout, rpcapi.ReasonNodeTimeout, rpcapi.ReasonNoNode,
			rpcapi.ReasonFilter, rpcapi.ReasonStopping, rpcapi.ReasonCanceled,
		} {
			m.refused[c][r] = refused.WithLabelValues(c.String(), string(r))
		}
	}
	return m
}

// allow tells the caps.
func (m *metrics) allow(cfg *Config) {
	for c := rpcapi.FastTrack; c <= rpcapi.Low; c++ {
		m.capacity[c].Set(float64(cfg.Max[c]))
	}
}

// refuse counts a call that got no place. What none of the sentinels is, is the cause of a context's end.
func (m *metrics) refuse(c rpcapi.Class, err error) {
	reason := rpcapi.ReasonCanceled
	for _, known := range []error{
		rpcapi.ErrQueueFull, rpcapi.ErrQueueTimeout, rpcapi.ErrNodeTimeout, rpcapi.ErrNoNode, rpcapi.ErrFilterNotFound,
		rpcapi.ErrStopping,
	} {
		if errors.Is(err, known) {
			reason = rpcapi.ReasonOf(known)
		}
	}
	m.refused[c][reason].Inc()
}
