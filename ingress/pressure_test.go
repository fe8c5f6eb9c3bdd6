package ingress

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBusyCPUsLeaveTheBulkFewerPlaces(t *testing.T) {
	t.Parallel()
	g := newGate(4, 8, 64)
	p := newPressure(g, 64)
	for range 3 {
		p.adjust(2*pressed, 0)
	}
	require.Equal(t, 8, g.sized(lotLow))
	require.Equal(t, 64, g.sized(lotUnknown), "low ones give way first")
	for range 100 {
		p.adjust(2*pressed, 0)
	}
	for _, lot := range []int{lotLow, lotUnknown} {
		require.Equal(t, fewestPlaces, g.sized(lot), "the bulk goes on")
	}
	p.adjust((pressed+relaxed)/2, 0)
	require.Equal(t, fewestPlaces, g.sized(lotUnknown))
	for range 100 {
		p.adjust(0, 0)
	}
	for _, lot := range []int{lotLow, lotUnknown} {
		require.Equal(t, 64, g.sized(lot))
	}
}

func TestPlacesTakenBeforeTheyBecameFewerAreKept(t *testing.T) {
	t.Parallel()
	g := newGate(8, 8, 2)
	bulk := rank(rankUnknown << rankClass)
	require.NoError(t, g.enter(t.Context(), bulk, time.Hour))
	require.NoError(t, g.enter(t.Context(), bulk, time.Hour))
	g.resize(lotUnknown, 1)
	g.vacate(lotUnknown)
	require.Error(t, g.enter(t.Context(), bulk, time.Millisecond), "one is still taken, and there is one")
	g.vacate(lotUnknown)
	require.NoError(t, g.enter(t.Context(), bulk, time.Hour))
}

func TestPressureReadsWhatTheRuntimeTells(t *testing.T) {
	t.Parallel()
	p := newPressure(newGate(1, 1, 1), 1)
	p.read()
	for range 1000 {
		done := make(chan struct{})
		go close(done)
		<-done
	}
	wait := p.read()
	require.GreaterOrEqual(t, wait, time.Duration(0))
	require.Less(t, wait, time.Minute)
	require.NotEmpty(t, p.before)
}

func BenchmarkPressureReading(b *testing.B) {
	p := newPressure(newGate(1, 1, 1), 1)
	b.ReportAllocs()
	for b.Loop() {
		p.read()
	}
}
