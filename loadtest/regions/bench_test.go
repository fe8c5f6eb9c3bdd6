package regions

import (
	"testing"
	"time"
)

// BenchmarkTransmit is what a path itself costs for a chunk: the toxics' only own work.
func BenchmarkTransmit(b *testing.B) {
	p := newPath(Conditions{Delay: time.Millisecond, Jitter: time.Microsecond, Bandwidth: 1e9})
	b.ReportAllocs()
	for b.Loop() {
		<-p.gate()
		p.transmit(time.Time{}, 7000)
		p.flight()
	}
}
