package export

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/loadtest"
)

// benchmark measures the rows of ms, again and again, as one export does.
func benchmark(b *testing.B, dataset string, l Log, ms []*Message) {
	b.Helper()
	cfg := testConfig(b)
	cfg.Datasets, cfg.MaxRows = []string{dataset}, 1_000_000
	e, err := New(cfg, nil)
	require.NoError(b, err)
	s := e.sinks[l][0]
	require.NoError(b, makeDir(cfg.Out))
	require.NoError(b, s.load())
	require.NoError(b, s.open(Span{First: 1, Last: 1 << 40, Created: epoch, Node: "n", MaxTxs: 100}))
	b.ReportAllocs()
	seq := uint64(0)
	for b.Loop() {
		m := *ms[seq%uint64(len(ms))]
		seq++
		m.Sequence = seq
		if err := s.take(&m); err != nil {
			b.Fatal(err)
		}
	}
	require.NoError(b, s.finish())
	b.ReportMetric(float64(s.sum.Rows)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(s.sum.Bytes)/float64(s.sum.Rows), "file-B/row")
}

func BenchmarkBundles(b *testing.B) {
	from := newLogs()
	for _, o := range corpusOrders(b, 5000, loadtest.ShapeBundle) {
		from.record(o)
	}
	benchmark(b, DatasetBundles, LogRecord, from.messages[LogRecord])
}

func BenchmarkReceipts(b *testing.B) {
	from := newLogs()
	for _, o := range corpusOrders(b, 1000, loadtest.ShapeBundle) {
		o.Origin = "peer"
		from.record(o)
	}
	benchmark(b, DatasetReceipts, LogRecord, from.messages[LogRecord])
}

func BenchmarkLedger(b *testing.B) {
	from := newLogs()
	from.done(1000)
	benchmark(b, DatasetLedger, LogDone, from.messages[LogDone])
}
