package loadtest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRangesOfPoints(t *testing.T) {
	for text, want := range map[string][]float64{
		"1..5000":       {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000},
		"1k..1M":        {1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6},
		"3..40":         {3, 5, 10, 20, 40},
		"7..7":          {7},
		"500..2000:500": {500, 1000, 1500, 2000},
		"1,2.5,1k":      {1, 2.5, 1000},
		"64":            {64},
	} {
		var r Range
		require.NoError(t, r.UnmarshalText([]byte(text)), text)
		require.InDeltaSlice(t, want, r.Values, 1e-6, text)
	}
	for _, text := range []string{"", "0..5", "5..1", "x", "1..x", "1..5:0", "1..1M:1", "5:1", "-1", "NaN", "1e99"} {
		var r Range
		require.ErrorIs(t, r.UnmarshalText([]byte(text)), ErrConfig, text)
	}
}

func TestSweepNamesItsVariable(t *testing.T) {
	var s Sweeping
	require.NoError(t, s.UnmarshalText([]byte("size=1k..2k")))
	require.Equal(t, VariableSize, s.Variable)
	require.InDeltaSlice(t, []float64{1000, 2000}, s.Values, 1e-6)
	for _, text := range []string{"size", "weight=1..5", "size=", "=1"} {
		require.ErrorIs(t, s.UnmarshalText([]byte(text)), ErrConfig, text)
	}
}

func TestNamedFlag(t *testing.T) {
	var n Named
	require.NoError(t, n.UnmarshalText([]byte("a=http://127.0.0.1:1/?x=y")))
	require.Equal(t, Named{"a", "http://127.0.0.1:1/?x=y"}, n)
	for _, text := range []string{"a", "a=", "=b", ""} {
		require.ErrorIs(t, n.UnmarshalText([]byte(text)), ErrConfig, text)
	}
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{"1..5000", "1k..1M", "500..2000:500", "1,2", "0.1..0.2:0.05"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var r Range
		if r.UnmarshalText([]byte(text)) == nil {
			require.NotEmpty(t, r.Values)
			require.LessOrEqual(t, len(r.Values), maxValues+1)
		}
	})
}
