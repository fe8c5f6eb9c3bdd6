package loadtest

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// leg is a leg with a given cost and latency.
func leg(target string, pair int, cost time.Duration, p50 int64) Leg {
	return Leg{Target: target, Pair: pair, Report: &Report{
		PerOrder: cost, Elapsed: time.Second,
		Flows: []FlowReport{{Wire: Latency{P50: p50, Count: 1}, Answers: map[string]int{}}},
	}}
}

func find(t *testing.T, rs []Ratio, measure string) Ratio {
	t.Helper()
	for _, r := range rs {
		if r.Measure == measure {
			return r
		}
	}
	require.Fail(t, "no such measure", measure)
	return Ratio{}
}

// The machine gets slower from pair to pair: the ratio of medians would say 0.5, each pair says
// something else, and the median of what the pairs say counts.
func TestRatioIsTheMedianOfThePairsRatios(t *testing.T) {
	legs := []Leg{
		leg("a", 1, 100*time.Microsecond, 10), leg("b", 1, 100*time.Microsecond, 10),
		leg("a", 2, 100*time.Microsecond, 30), leg("b", 2, 200*time.Microsecond, 20),
		leg("a", 3, 900*time.Microsecond, 40), leg("b", 3, 1000*time.Microsecond, 10),
	}
	rs := ratios(legs, []string{"a", "b"}, "b")
	cpu := find(t, rs, "CPU per accepted order")
	require.Equal(t, []PairValue{{1, 100, 100, 1}, {2, 100, 200, 0.5}, {3, 900, 1000, 0.9}}, cpu.Pairs)
	require.InDelta(t, 0.9, cpu.Median, 1e-9)
	require.InDelta(t, 0.5, cpu.Min, 1e-9)
	require.InDelta(t, 1, cpu.Max, 1e-9)
	require.InDelta(t, 100, cpu.TargetMedian, 1e-9)
	require.InDelta(t, 200, cpu.BaseMedian, 1e-9)
	p50 := find(t, rs, "wire to wire p50")
	require.InDelta(t, 1.5, p50.Median, 1e-9)
	require.InDelta(t, 30, p50.TargetMedian, 1e-9)
	for _, r := range rs {
		require.NotEqual(t, "accepted orders", r.Measure, "what nobody measured has no ratio")
		require.Equal(t, "a", r.Target)
	}
}

func TestRatioNeedsBothOfAPair(t *testing.T) {
	legs := []Leg{
		leg("a", 1, time.Millisecond, 10), leg("b", 1, 0, 20), // b's processes weren't watched
		leg("a", 2, time.Millisecond, 10), // b is missing
		leg("c", 1, time.Millisecond, 40), leg("c", 2, time.Millisecond, 40),
	}
	rs := ratios(legs, []string{"a", "c", "b"}, "b")
	require.Len(t, rs, 2)
	require.Len(t, rs[0].Pairs, 1)
	require.Equal(t, "c", rs[1].Target)
	require.InDelta(t, 2, rs[1].Median, 1e-9)
}

func TestMedian(t *testing.T) {
	require.InDelta(t, 2, median([]float64{3, 1, 2}), 1e-9)
	require.InDelta(t, 2.5, median([]float64{4, 3, 2, 1}), 1e-9)
	require.True(t, math.IsNaN(median(nil)))
	require.Zero(t, middle(nil))
}

func TestWordsForARatio(t *testing.T) {
	for _, c := range []struct {
		median float64
		better Better
		want   string
	}{
		{0.7, BetterLower, "better"},
		{1.3, BetterLower, "worse"},
		{1.02, BetterLower, "even"},
		{0.7, BetterHigher, "worse"},
		{1.3, BetterHigher, "better"},
		{0.98, BetterHigher, "even"},
	} {
		r := Ratio{Median: c.median, Better: c.better}
		require.Equal(t, c.want, r.word())
		require.NotEmpty(t, r.class())
	}
}
