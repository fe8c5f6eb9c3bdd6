package chart

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestScalesMapTheirEnds(t *testing.T) {
	for _, s := range []Scale{Linear(10, 30), Log(1, 1000)} {
		s = s.place(100, 200)
		require.InDelta(t, 100, s.At(s.From), 1e-9)
		require.InDelta(t, 200, s.At(s.To), 1e-9)
		require.InDelta(t, 100, s.At(-5), 1e-9, "what lies beyond is at the end")
		require.InDelta(t, 200, s.At(1e12), 1e-9)
	}
	require.InDelta(t, 150, Linear(0, 2).place(100, 200).At(1), 1e-9)
	require.InDelta(t, 150, Log(1, 100).place(100, 200).At(10), 1e-9)
}

func TestScalesOfNothingAreScales(t *testing.T) {
	for _, s := range []Scale{Linear(0, 0), Linear(5, 5), Log(0, 0), Log(0, 10), Log(7, 7), Log(-1, 5)} {
		for _, n := range []Scale{s, s.Nice()} {
			n = n.place(0, 10)
			require.Less(t, n.From, n.To)
			require.False(t, math.IsNaN(n.At(3)))
			require.LessOrEqual(t, len(n.Ticks(5)), 12)
		}
	}
}

func TestTicksAreRoundAndWithin(t *testing.T) {
	require.Equal(t, []float64{0, 50, 100}, Linear(0, 100).Ticks(3))
	require.Equal(t, []float64{0, 0.2, 0.4}, Linear(0, 0.5).Ticks(3))
	require.Equal(t, []float64{1, 2, 5, 10}, Log(1, 10).Ticks(6))
	require.Equal(t, []float64{1, 3, 10, 30, 100}, Log(1, 100).Ticks(6))
	require.Equal(t, []float64{1, 10, 100, 1000}, Log(1, 1000).Ticks(4))
	require.InDelta(t, 1000, Linear(0, 950).Nice().To, 1e-9)
	require.InDelta(t, 500, Log(3, 430).Nice().To, 1e-9)
	require.InDelta(t, 2, Log(3, 430).Nice().From, 1e-9)
}

func TestNumbersForPeople(t *testing.T) {
	for want, got := range map[string]string{
		"0": Number(0), "7": Number(7), "0.5": Number(0.5), "0.012": Number(0.012), "12.3": Number(12.34), "123": Number(123.4), "9999": Number(9999), "12k": Number(12_000), "2.5M": Number(2_500_000),
		"70 µs": Micros(70), "1.2 ms": Micros(1200), "12.3 ms": Micros(12_345), "2 s": Micros(2e6),
		"10 B": Bytes(10), "1 kB": Bytes(1000), "432 MB": Bytes(432e6), "1.5 GB": Bytes(1.5e9), "0 B": Bytes(0),
	} {
		require.Equal(t, want, got)
	}
}

func FuzzScale(f *testing.F) {
	f.Add(0.0, 100.0, true, 5)
	f.Add(1e-9, 1e9, false, 3)
	f.Fuzz(func(t *testing.T, from, to float64, log bool, about int) {
		if math.IsNaN(from+to) || math.Abs(from) > 1e15 || math.Abs(to) > 1e15 || about < 1 || about > 20 || to-from < 1e-6*math.Abs(to) {
			t.Skip("no plot has such an axis")
		}
		s := Linear(from, to)
		if log {
			s = Log(from, to)
		}
		for _, v := range s.place(0, 100).Ticks(about) {
			require.False(t, math.IsNaN(v))
		}
	})
}
