package engine

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"millrace/egress/engine/chain"
	"millrace/egress/engine/compare"
	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
)

// metrics are the replayers' collectors; a client's label values exist from New to the end of Run.
type metrics struct {
	compares, divergences, skips, calls, heads    *prometheus.CounterVec
	callSeconds, lateSeconds, builtValue          *prometheus.HistogramVec
	lagBlocks, lagSeconds, states, breaker, alien *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "millrace_engine_" + name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return f.NewGaugeVec(prometheus.GaugeOpts{Name: "millrace_engine_" + name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return f.NewHistogramVec(prometheus.HistogramOpts{Name: "millrace_engine_" + name, Help: help, Buckets: buckets}, labels)
	}
	latency := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	return &metrics{
		compares:    counter("compare_total", "Calls of a secondary compared with the primary's outcome, by class; not_compared are those that it was not sent.", "secondary", "method", "class"),
		divergences: counter("divergences_total", "Divergences published: one for each class and first bad block.", "secondary", "class"),
		heads:       counter("head_state_total", "Samples of a secondary's head compared with the primary's, by class: transient ones wait for the next to confirm a difference.", "secondary", "class"),
		skips:       counter("secondary_skipped_total", "Recorded calls that a secondary was not sent, by reason.", "secondary", "reason"),
		calls:       counter("secondary_calls_total", "Replayed calls to a client by kind and what became of them.", "secondary", "kind", "fate"),
		callSeconds: histogram("secondary_call_seconds", "Wall time of the same live calls at the primary and at a secondary, without waiting.", latency, "secondary", "side", "method"),
		lateSeconds: histogram("secondary_late_seconds", "From the arrival of a live call to its replay.", latency, "secondary"),
		builtValue:  histogram("secondary_built_value_ratio", "Value of a payload that a secondary built over the primary's.", []float64{0, .25, .5, .75, .9, .95, 1, 1.05, 1.1, 1.25, 1.5, 2, 4}, "secondary"),
		lagBlocks:   gauge("secondary_head_lag_blocks", "Blocks between a client's head and the last forkchoice.", "secondary"),
		lagSeconds:  gauge("secondary_lag_seconds", "Age of the oldest recorded call that a client has not got, 0 without one.", "secondary"),
		states:      gauge("secondary_state", "1 for the state that a client is in.", "secondary", "state"),
		breaker:     gauge("secondary_breaker_open", "1 while a client is only probed because it does not answer.", "secondary"),
		alien:       gauge("secondary_foreign_writer", "1 while a client's head was moved by somebody else.", "secondary"),
	}
}

// targetMetrics are one client's.
type targetMetrics struct {
	m      *metrics
	target string
	isOpen atomic.Bool
	ended  atomic.Bool
}

func (m *metrics) of(target string) *targetMetrics {
	t := &targetMetrics{m: m, target: target}
	for _, s := range States() {
		m.states.WithLabelValues(target, s.String())
	}
	for _, r := range chain.Reasons() {
		m.skips.WithLabelValues(target, r.String())
	}
	for _, c := range []compare.Class{compare.Warn, compare.Config, compare.Critical} {
		m.divergences.WithLabelValues(target, c.String())
	}
	for _, c := range []compare.Class{compare.OK, compare.NotCompared, compare.Transient, compare.Warn, compare.Critical} {
		m.heads.WithLabelValues(target, c.String())
	}
	for _, k := range chain.Kinds() {
		for _, f := range fates() {
			m.calls.WithLabelValues(target, k.String(), f.String())
		}
	}
	m.lagBlocks.WithLabelValues(target)
	m.lagSeconds.WithLabelValues(target)
	m.breaker.WithLabelValues(target)
	m.alien.WithLabelValues(target)
	return t
}

// forget deletes the client's label values.
func (t *targetMetrics) forget() {
	t.ended.Store(true)
	by := prometheus.Labels{"secondary": t.target}
	for _, v := range []interface {
		DeletePartialMatch(labels prometheus.Labels) int
	}{
		t.m.compares, t.m.divergences, t.m.heads, t.m.skips, t.m.calls, t.m.callSeconds, t.m.lateSeconds, t.m.builtValue,
		t.m.lagBlocks, t.m.lagSeconds, t.m.states, t.m.breaker, t.m.alien,
	} {
		v.DeletePartialMatch(by)
	}
}

func (t *targetMetrics) compared(method string, c compare.Class) {
	t.m.compares.WithLabelValues(t.target, engineapi.Label(method), c.String()).Inc()
}

func (t *targetMetrics) diverged(c compare.Class) {
	t.m.divergences.WithLabelValues(t.target, c.String()).Inc()
}

// headState counts a sample.
func (t *targetMetrics) headState(c compare.Class) {
	t.m.heads.WithLabelValues(t.target, c.String()).Inc()
}

// skipped counts calls that were not sent. They are never OK.
func (t *targetMetrics) skipped(method string, r chain.Reason, n int) {
	t.m.skips.WithLabelValues(t.target, r.String()).Add(float64(n))
	t.m.compares.WithLabelValues(t.target, engineapi.Label(method), compare.NotCompared.String()).Add(float64(n))
}

func (t *targetMetrics) sent(k chain.Kind, f fate) {
	t.m.calls.WithLabelValues(t.target, k.String(), f.String()).Inc()
}

func (t *targetMetrics) latency(method string, primary, secondary time.Duration) {
	method = engineapi.Label(method)
	t.m.callSeconds.WithLabelValues(t.target, "primary", method).Observe(primary.Seconds())
	t.m.callSeconds.WithLabelValues(t.target, "secondary", method).Observe(secondary.Seconds())
}

func (t *targetMetrics) late(d time.Duration) {
	t.m.lateSeconds.WithLabelValues(t.target).Observe(max(d.Seconds(), 0))
}

func (t *targetMetrics) shadow(primary, secondary *record.Built) {
	if primary.Value.IsZero() {
		return
	}
	t.m.builtValue.WithLabelValues(t.target).Observe(secondary.Value.Float64() / primary.Value.Float64())
}

func (t *targetMetrics) state(s State) {
	for _, o := range States() {
		v := 0.0
		if o == s {
			v = 1
		}
		t.m.states.WithLabelValues(t.target, o.String()).Set(v)
	}
}

func (t *targetMetrics) open(open bool) {
	t.isOpen.Store(open)
	v := 0.0
	if open {
		v = 1
	}
	t.m.breaker.WithLabelValues(t.target).Set(v)
}

func (t *targetMetrics) breakerOpen() bool { return t.isOpen.Load() }

func (t *targetMetrics) levels(s *Status) {
	if t.ended.Load() {
		return
	}
	t.m.lagBlocks.WithLabelValues(t.target).Set(float64(s.LagBlocks))
	t.m.lagSeconds.WithLabelValues(t.target).Set(s.Oldest.Seconds())
	alien := 0.0
	if s.ForeignWriter {
		alien = 1
	}
	t.m.alien.WithLabelValues(t.target).Set(alien)
}
