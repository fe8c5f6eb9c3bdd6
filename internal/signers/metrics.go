package signers

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// result is what became of a received batch: a closed set, as it is a label.
type result uint8

const (
	resultAccepted result = iota + 1
	resultVersion
	resultMalformed
	resultForged
	resultQuarantined
	resultReplayed
	resultEcho
	resultOff
)

var resultNames = [...]string{
	"", "accepted", "unknown_version", "malformed", "forged", "quarantined", "replayed", "echo", "off",
}

func (r result) String() string { return resultNames[r] }

type metrics struct {
	hitLocal, hitShared, misses prometheus.Counter
	sent, dropped, unsent       prometheus.Counter
	learned, missed             prometheus.Counter
	rechecked, wrong            prometheus.Counter
	quarantined                 prometheus.Gauge
	batches                     [len(resultNames)]prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, entries func() float64) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "millrace_signer_cache_" + name, Help: help})
	}
	hits := f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_signer_cache_hits_total",
		Help: "Transactions found in the signer cache, by whose work it was.",
	}, []string{"learned"})
	batches := f.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_signer_cache_batches_received_total",
		Help: "Batches of other worker processes, by what became of them.",
	}, []string{"result"})
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millrace_signer_cache_entries",
		Help: "Transactions that the signer cache remembers now.",
	}, entries)
	m := &metrics{
		hitLocal: hits.WithLabelValues("here"), hitShared: hits.WithLabelValues("shared"),
		misses:    counter("misses_total", "Transactions that had to be checked and recovered."),
		sent:      counter("entries_sent_total", "Entries told to other worker processes."),
		dropped:   counter("entries_dropped_total", "Entries not told to other worker processes because too many waited."),
		unsent:    counter("entries_unsent_total", "Entries not told to other worker processes because sending failed."),
		learned:   counter("entries_received_total", "Entries taken from other worker processes."),
		missed:    counter("batches_missed_total", "Batches of other worker processes that never arrived."),
		rechecked: counter("rechecked_total", "Shared entries that were checked again."),
		wrong:     counter("wrong_total", "Shared entries that were found wrong."),
		quarantined: f.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_signer_cache_quarantined_origins",
			Help: "Worker processes whose entries are refused because one was wrong.",
		}),
	}
	for r := resultAccepted; int(r) < len(resultNames); r++ {
		m.batches[r] = batches.WithLabelValues(r.String())
	}
	return m
}
