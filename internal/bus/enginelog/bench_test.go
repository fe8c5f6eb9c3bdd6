package enginelog

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/engineapi/record"
	"millrace/internal/natstest"
)

// BenchmarkRequest is what recording costs the call that is recorded.
func BenchmarkRequest(b *testing.B) {
	r, err := New(Config{SpoolDir: b.TempDir(), SpoolMax: 1 << 30}, nil, quiet(), prometheus.NewRegistry())
	require.NoError(b, err)
	q, _ := call(1, 1, 200_000)
	var spare []pending
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		r.Request(q)
		if n++; n%128 == 0 {
			spare, _ = r.drain(spare)
		}
	}
	require.Empty(b, (&testRecorder{Recorder: r}).lost())
}

// BenchmarkOutcome is the same for the second record of a call.
func BenchmarkOutcome(b *testing.B) {
	r, err := New(Config{SpoolDir: b.TempDir(), SpoolMax: 1 << 30}, nil, quiet(), prometheus.NewRegistry())
	require.NoError(b, err)
	_, o := call(1, 1, 100)
	var spare []pending
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		r.Outcome(o)
		if n++; n%128 == 0 {
			spare, _ = r.drain(spare)
		}
	}
}

// BenchmarkSpool is a record through the spool: appended, handed out, settled.
func BenchmarkSpool(b *testing.B) {
	s, _, err := openSpool(b.TempDir(), 256<<20)
	require.NoError(b, err)
	defer s.close()
	it := frameOf(b, 1, 1)
	it.body = make([]byte, 20_000)
	b.SetBytes(int64(len(it.body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.append(it); err != nil {
			b.Fatal(err)
		}
		_, end, _ := s.next()
		s.settle(end, 1)
	}
}

// BenchmarkRecordAndRead is a record's whole way: spool, store, reader.
func BenchmarkRecordAndRead(b *testing.B) {
	s := natstest.Start(b)
	furnish(b, s)
	p := port(b, s)
	r := run(b, p, spoolDir(b))
	l, err := NewReader(p, quiet(), prometheus.NewRegistry()).Log("", nil)
	require.NoError(b, err)
	n, next := 0, uint64(1)
	b.ReportAllocs()
	for b.Loop() {
		n++
		q, _ := call(1, uint64(n), 2000)
		r.Request(q)
		if n%256 != 0 {
			continue
		}
		r.settled(b, n)
		require.NoError(b, l.Read(b.Context(), next, func(e record.Entry) error {
			next = e.Stream + 1
			return nil
		}))
	}
}
