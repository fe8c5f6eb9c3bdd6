package chain

import (
	"testing"

	"millrace/internal/engineapi/record"
)

// day is a day of mainnet.
func day(b *testing.B) *forest {
	b.Helper()
	f := newForest()
	for range 7200 {
		f.make(f.child(f.head))
		f.choose(f.head.hash, valid())
	}
	return f
}

func BenchmarkPlanOfADay(b *testing.B) {
	f := day(b)
	target, _ := f.x.Target(later())
	b.ReportAllocs()
	for b.Loop() {
		s := NewSession(genesis().hash, 0, record.ID{})
		if steps, err := f.x.Plan(s, target, DefaultCheckpoint, later()); err != nil || len(steps) < 7200 {
			b.Fatal(err, len(steps))
		}
	}
}

func BenchmarkLiveCall(b *testing.B) {
	f := day(b)
	s := NewSession(f.blocks[len(f.blocks)-2].hash, 7199, record.ID{})
	call, _ := f.x.Block(f.head.hash, later())
	b.ReportAllocs()
	for b.Loop() {
		if steps, _, err := f.x.Live(s, call, DefaultCheckpoint, later()); err != nil || len(steps) != 1 {
			b.Fatal(err, len(steps))
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	f := newForest()
	b.ReportAllocs()
	for b.Loop() {
		f.make(f.child(f.head))
	}
}
