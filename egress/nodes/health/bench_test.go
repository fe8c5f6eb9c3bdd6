package health

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

func benchmarkObserve(b *testing.B, o Outcome) (*rig, rpcapi.Tag) {
	b.Helper()
	r, nodes := newRig(b, 8, nil)
	r.Set(nodes)
	b.ReportAllocs()
	require.Zero(b, testing.AllocsPerRun(100, func() { r.Observe(nodes[3].Tag, o, time.Millisecond) }))
	return r, nodes[3].Tag
}

func BenchmarkObserve(b *testing.B) {
	r, tag := benchmarkObserve(b, Answered)
	for b.Loop() {
		r.Observe(tag, Answered, 3*time.Millisecond)
	}
}

func BenchmarkObserveParallel(b *testing.B) {
	r, tag := benchmarkObserve(b, Answered)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.Observe(tag, Answered, 3*time.Millisecond)
		}
	})
}

func BenchmarkObserveRefused(b *testing.B) {
	r, tag := benchmarkObserve(b, Refused)
	for b.Loop() {
		r.Observe(tag, Refused, 0)
	}
}

func BenchmarkHead(b *testing.B) {
	r, _ := newRig(b, 0, nil)
	b.ReportAllocs()
	for b.Loop() {
		_ = r.Head()
	}
}

// BenchmarkReview is what a tick costs with many nodes.
func BenchmarkReview(b *testing.B) {
	r, nodes := newRig(b, 64, nil)
	r.Set(nodes)
	b.ReportAllocs()
	for b.Loop() {
		r.eject(time.Now())
		r.review(time.Now())
	}
}

func TestObserveDoesNotAllocate(t *testing.T) {
	r, nodes := newRig(t, 1, nil)
	r.Set(nodes)
	for o := Answered; o <= Canceled; o++ {
		require.Zero(t, testing.AllocsPerRun(100, func() { r.Observe(nodes[0].Tag, o, time.Millisecond) }))
	}
}
