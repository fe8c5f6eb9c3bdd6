package retry

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBackoffDoublesUpToItsMostAndHalfOfItIsRandom(t *testing.T) {
	const base, most = 10 * time.Millisecond, 250 * time.Millisecond
	for n, full := range []time.Duration{base, 2 * base, 4 * base, 8 * base, 16 * base, most, most} {
		for range 100 {
			d := Backoff(n, base, most)
			require.GreaterOrEqual(t, d, full/2)
			require.LessOrEqual(t, d, full)
		}
	}
	require.LessOrEqual(t, Backoff(1<<20, base, most), most)
}

func TestPauseTellsWhetherItWasServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		require.True(t, Pause(t.Context(), time.Hour))
		require.Equal(t, time.Hour, time.Since(began))
		require.True(t, Pause(t.Context(), 0))

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.False(t, Pause(ctx, time.Hour))
		require.Equal(t, time.Hour+time.Minute, time.Since(began))
		require.False(t, Pause(ctx, 0))
		require.False(t, Pause(ctx, -time.Second))
	})
}

func TestPauseEndsWithItsContext(t *testing.T) {
	require.True(t, Pause(t.Context(), time.Nanosecond))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.False(t, Pause(ctx, time.Hour))
}
