package loadtest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

func BenchmarkOrder(b *testing.B) {
	c := newTestCorpus(b, CorpusConfig{Seed: 1})
	b.ReportAllocs()
	size := 0
	n := uint64(0)
	for b.Loop() {
		o, err := c.Order(n)
		require.NoError(b, err)
		size += len(o.Body)
		n++
	}
	b.SetBytes(int64(size) / max(int64(n), 1))
}

func BenchmarkScanReceipt(b *testing.B) {
	c := newTestCorpus(b, CorpusConfig{Seed: 1, Mix: Only(ShapeBundle)})
	o, err := c.Order(4)
	require.NoError(b, err)
	b.ReportAllocs()
	b.SetBytes(int64(len(o.Body)))
	for b.Loop() {
		r := scanReceipt(o.Body)
		require.True(b, r.Tagged)
	}
}

func BenchmarkReadAnswer(b *testing.B) {
	body := []byte(`{"jsonrpc":"2.0","id":1,"result":{"bundleHash":"0x58fa6775a781449b759e71e40219a0b7d0489ce8ae7ac1524996e9f21b6e6e6d","receivedTimestampMs":1700000000000.5}}`)
	b.ReportAllocs()
	for b.Loop() {
		var r Result
		require.NoError(b, readAnswer(&r, body))
	}
}

func BenchmarkCheck(b *testing.B) {
	r := goodRun()
	for i := range uint64(10000) {
		g := goodRun()
		g.sent[0].Tag, g.receipts[0].Tag = tagged(i), tagged(i)
		r.sent, r.receipts = append(r.sent, g.sent...), append(r.receipts, g.receipts...)
	}
	b.ReportAllocs()
	for b.Loop() {
		r.check()
	}
}

// BenchmarkRoundTrip is generator and sink together, without a door: what a load test costs beside
// what it measures.
func BenchmarkRoundTrip(b *testing.B) {
	sink := NewSink()
	ln, url, err := sink.Bind(b.Context(), "127.0.0.1:0")
	require.NoError(b, err)
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- sink.Run(ctx, ln) }()
	defer func() {
		stop()
		require.NoError(b, <-done)
	}()
	j := &Journal{}
	n := uint64(b.N)
	s, err := NewSender(Flow{URLs: []string{url}, Count: n, Preload: n, Connections: 16, Corpus: CorpusConfig{Seed: 1}}, j)
	require.NoError(b, err)
	require.NoError(b, s.Prepare(ctx))
	b.ReportAllocs()
	b.ResetTimer()
	require.NoError(b, s.Run(ctx))
	b.StopTimer()
	require.Equal(b, b.N, j.Count(AnswerAccepted))
}
