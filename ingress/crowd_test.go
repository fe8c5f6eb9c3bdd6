package ingress

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCrowdCountsTheThreadsThatWait(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tell := func(thread, text string) {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, thread), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, thread, "schedstat"), []byte(text), 0o600))
	}
	c, start := crowd{dir: dir}, time.Now()
	tell("1", "500 1000000000 3\n")
	tell("2", "500 7 3\n")
	require.Zero(t, c.read(start), "since when is not known")
	tell("1", "500 1200000000 3\n")
	tell("2", "500 100000007 3\n")
	require.InDelta(t, 3, c.read(start.Add(100*time.Millisecond)), 0.01)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "1")))
	require.Zero(t, c.read(start.Add(200*time.Millisecond)), "a thread has ended")
	tell("2", "what is this")
	require.Zero(t, c.read(start.Add(300*time.Millisecond)))
	none := crowd{dir: filepath.Join(dir, "none")}
	none.read(start)
	require.Zero(t, none.read(start.Add(time.Second)), "no such kernel")
}

func TestPlacesOfLowSendersRestWhileGoodOnesWouldWait(t *testing.T) {
	t.Parallel()
	g := newGate(4, 8, 64)
	p := newPressure(g, 64)
	p.pace(2 * crowded)
	require.Zero(t, g.lowRest(), "first they get fewer")
	for range 10 {
		p.adjust(0, 2*crowded)
	}
	require.Equal(t, fewestPlaces, g.sized(lotLow))
	require.Equal(t, 64, g.sized(lotUnknown))
	p.pace(2 * crowded)
	require.Equal(t, shortestRest, g.lowRest())
	for range 10 {
		p.pace(2 * crowded)
	}
	require.Equal(t, longestRest, g.lowRest(), "the bulk goes on")
	p.adjust(0, 0)
	require.Equal(t, fewestPlaces, g.sized(lotLow), "they rest less first")
	for range 20 {
		p.pace(0)
	}
	require.Zero(t, g.lowRest())
	p.adjust(0, 0)
	require.Equal(t, fewestPlaces+1, g.sized(lotLow))
}

func TestThreadsWaitForNobodyUnlessGoodAndLowSendersAreThere(t *testing.T) {
	t.Parallel()
	g := newGate(4, 8, 64)
	p := newPressure(g, 64)
	dir := t.TempDir()
	p.crowd.dir = dir
	require.NoError(t, os.Mkdir(filepath.Join(dir, "1"), 0o755))
	now, waited := time.Now(), 0
	wait := func() float64 { // one more tenth of a second, all of it spent waiting
		now, waited = now.Add(100*time.Millisecond), waited+int(100*time.Millisecond)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "1", "schedstat"), fmt.Appendf(nil, "0 %d 0", waited), 0o600))
		return p.waiting(now)
	}
	come := func(class rank) {
		require.NoError(t, g.enter(t.Context(), class<<rankClass, time.Hour))
	}
	wait()
	require.Zero(t, wait(), "nobody is there")
	come(rankGood)
	wait()
	require.Zero(t, wait(), "nobody who could wait instead")
	come(rankLowly)
	require.Zero(t, wait(), "since when is not known")
	require.InDelta(t, 1, wait(), 0.01)
	now = now.Add(urgency)
	require.Zero(t, wait(), "they are gone")
}

func TestAPlaceRestsBeforeItIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(8, 8, 1)
		bulk := rank(rankUnknown << rankClass)
		g.pace(lotUnknown, 20*time.Millisecond)
		require.NoError(t, g.enter(t.Context(), bulk, time.Hour))
		g.vacate(lotUnknown)
		require.Error(t, g.enter(t.Context(), bulk, 19*time.Millisecond))
		start := time.Now()
		require.NoError(t, g.enter(t.Context(), bulk, time.Hour))
		require.Equal(t, time.Millisecond, time.Since(start))
	})
}
