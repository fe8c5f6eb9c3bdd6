package enginelog

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
)

// TestWhoWaitsForRoomLosesNothing records eight times what memory and spool hold, at once.
func TestWhoWaitsForRoomLosesNothing(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	furnish(t, s)
	b := port(t, s)
	r := run(t, b, spoolDir(t), func(c *Config) { c.QueueMax, c.SpoolMax = 1<<20, minSpool })
	for n := uint64(1); n <= 80; n++ {
		q, o := call(1, n, 100_000)
		require.NoError(t, r.Room(t.Context(), int64(len(q.Raw))))
		r.Request(q)
		require.NoError(t, r.Room(t.Context(), 0))
		r.Outcome(o)
	}
	require.NoError(t, r.Settled(t.Context()))
	require.Zero(t, r.Lost())
	require.Equal(t, names(1, 1, 80), told(t, b, 1))
}

func TestARecordThatNeverFitsIsALossThatIsTold(t *testing.T) {
	s := natstest.Start(t)
	furnish(t, s)
	r := run(t, port(t, s), spoolDir(t), func(c *Config) { c.SpoolMax = minSpool })
	q, _ := call(1, 1, 3<<20)
	require.NoError(t, r.Room(t.Context(), int64(len(q.Raw))), "waiting would not help it")
	r.Request(q)
	require.NoError(t, r.Settled(t.Context()))
	require.EqualValues(t, 1, r.Lost())
}

func TestRoomIsNotWaitedForWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := New(Config{SpoolDir: "nowhere", SpoolMax: minSpool, QueueMax: 10 << 10}, nil, quiet(), prometheus.NewRegistry())
		require.NoError(t, err)
		q, _ := call(1, 1, 5000)
		r.Request(q) // nobody takes it
		require.ErrorIs(t, r.Room(t.Context(), 1), ErrStalled)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, r.Settled(ctx), context.Canceled)
	})
}
