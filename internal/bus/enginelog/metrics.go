package enginelog

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"millrace/subjects"
)

// Reasons for the loss of a record that was to be stored, as labels.
const (
	lostQueue      = "queue_full"  // no room in memory
	lostClosed     = "closed"      // it came after the recorder had ended
	lostSpoolFull  = "spool_full"  // it made room for later ones
	lostSpoolError = "spool_error" // the disk refused it and memory was full
	lostTorn       = "torn"        // the process died while it wrote it
	lostDamaged    = "damaged"     // the spool can't be read back
	lostTooLarge   = "too_large"   // it exceeds what the spool may hold
	lostRefused    = "refused"     // the store will never take it
	lostTooSlow    = "too_slow"    // the store did not take its parts in time, again and again
)

// metrics are the recorder's series; every label value exists from the start.
type metrics struct {
	stored     map[subjects.EngineKind]prometheus.Counter
	lost       map[string]prometheus.Counter
	seconds    prometheus.Histogram
	queueBytes prometheus.Gauge
	spoolBytes prometheus.Gauge
	unstored   prometheus.Gauge
	troubles   prometheus.Counter
	repeats    prometheus.Counter

	// settled and gone are stored and lost over all labels, but for what an earlier process lost.
	settled, gone atomic.Uint64
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: "millrace_engine_" + name, Help: help})
	}
	stored := f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_engine_recorded_total", Help: "Engine API records that the bus has stored.",
	}, []string{"kind"})
	lost := f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_engine_record_lost_total", Help: "Engine API records that were lost before they were stored, by reason.",
	}, []string{"reason"})
	m := &metrics{
		stored: map[subjects.EngineKind]prometheus.Counter{
			subjects.EngineRequestKind: stored.WithLabelValues("request"),
			subjects.EngineOutcomeKind: stored.WithLabelValues("outcome"),
		},
		lost: make(map[string]prometheus.Counter),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "millrace_engine_record_seconds", Help: "Time from a call's record to its acknowledgement by the store.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 4, 14),
		}),
		queueBytes: gauge("record_queue_bytes", "Bytes of records that wait for the spool."),
		spoolBytes: gauge("spool_bytes", "Bytes of the spool's files."),
		unstored:   gauge("record_unstored", "Records that the store has not acknowledged."),
		troubles:   f.NewCounter(prometheus.CounterOpts{Name: "millrace_engine_record_interrupted_total", Help: "Times that publishing records began anew at the last acknowledged one."}),
		repeats:    f.NewCounter(prometheus.CounterOpts{Name: "millrace_engine_record_found_total", Help: "Records found in the store although their acknowledgement was lost."}),
	}
	for _, reason := range []string{
		lostQueue, lostClosed, lostSpoolFull, lostSpoolError, lostTorn, lostDamaged, lostTooLarge, lostRefused, lostTooSlow,
	} {
		m.lost[reason] = lost.WithLabelValues(reason)
	}
	return m
}

// lose counts records that are lost.
func (m *metrics) lose(reason string, n int) {
	m.lost[reason].Add(float64(n))
	m.gone.Add(uint64(n)) //nolint:gosec // a count
}

func (m *metrics) loseAll(l losses) {
	m.lose(lostSpoolFull, l.full)
	m.lose(lostTorn, l.torn)
	m.lose(lostDamaged, l.damaged)
}

// found counts what an earlier process lost.
func (m *metrics) found(l losses) {
	m.lost[lostTorn].Add(float64(l.torn))
	m.lost[lostDamaged].Add(float64(l.damaged))
}

// Reasons for the loss of a record that was to be read, as labels.
const (
	missingRetention = "retention"
	missingParts     = "parts"
	missingDamaged   = "damaged"
)

// readMetrics are the readers' series.
type readMetrics struct {
	missing   map[Reason]prometheus.Counter
	reopened  prometheus.Counter
	redeliver prometheus.Counter
}

func newReadMetrics(reg prometheus.Registerer) *readMetrics {
	f := promauto.With(reg)
	missing := f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_engine_read_missing_total", Help: "Records, or stretches of them, that could not be handed to a replayer, by reason.",
	}, []string{"reason"})
	m := &readMetrics{
		missing:   make(map[Reason]prometheus.Counter),
		reopened:  f.NewCounter(prometheus.CounterOpts{Name: "millrace_engine_reader_reopened_total", Help: "Times that reading the record began anew where it was."}),
		redeliver: f.NewCounter(prometheus.CounterOpts{Name: "millrace_engine_reader_repeated_total", Help: "Messages that came to a replayer that had them already."}),
	}
	for _, r := range []Reason{LossRetention, LossParts, LossDamaged} {
		m.missing[r] = missing.WithLabelValues(r.String())
	}
	return m
}
