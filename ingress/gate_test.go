package ingress

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGateLetsTheBestKnownInFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 8)
		require.True(t, g.tryEnter())
		require.False(t, g.tryEnter())
		var got []rank
		for _, r := range []rank{5, 3, 9, 1} {
			go func() {
				if g.enter(t.Context(), r, time.Hour) == nil {
					got = append(got, r)
					g.leave()
				}
			}()
			synctest.Wait()
		}
		require.Equal(t, 4, g.waiting())
		g.leave()
		synctest.Wait()
		require.Equal(t, []rank{1, 3, 5, 9}, got)
		require.True(t, g.tryEnter(), "the slot is free again")
	})
}

func TestGateRefusesTheWorstWhenFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 2)
		require.True(t, g.tryEnter())
		results := map[rank]error{}
		for _, r := range []rank{7, 5, 6, 9} {
			go func() {
				err := g.enter(t.Context(), r, time.Hour)
				results[r] = err
				if err == nil {
					g.leave()
				}
			}()
			synctest.Wait()
		}
		require.Len(t, results, 2)
		require.Error(t, results[7])
		require.Error(t, results[9])
		g.leave()
		synctest.Wait()
		require.NoError(t, results[5])
		require.NoError(t, results[6])
	})
}

func TestGateWaitersLeaveAtTheirDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 2)
		require.True(t, g.tryEnter())
		start := time.Now()
		require.Error(t, g.enter(t.Context(), 1, time.Second))
		require.Equal(t, time.Second, time.Since(start))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.Error(t, g.enter(ctx, 1, time.Second))
		require.Zero(t, g.waiting())
		g.leave()
		require.True(t, g.tryEnter())
	})
}

func TestGateStarvesNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 64)
		require.True(t, g.tryEnter())
		served := 0
		poor := fairShare
		go func() {
			if g.enter(t.Context(), 1000, time.Hour) == nil {
				poor = served
				g.leave()
			}
		}()
		synctest.Wait()
		for range 32 {
			go func() {
				if g.enter(t.Context(), 1, time.Hour) == nil {
					served++
					g.leave()
				}
			}()
			synctest.Wait()
		}
		g.leave()
		synctest.Wait()
		require.Equal(t, 32, served)
		require.Less(t, poor, fairShare)
	})
}

func TestRankPrefersLongKnownGoodSigners(t *testing.T) {
	t.Parallel()
	long := make([]byte, 2*cancelSize)
	old, young := time.Unix(1000, 0), time.Unix(2000, 0)
	ranks := []rank{
		rankOf(standing{known: young}, []byte("cancel")),
		rankOf(standing{known: old}, long),
		rankOf(standing{known: young}, long),
		rankOf(standing{}, []byte("cancel")),
		rankOf(standing{}, long),
		rankOf(standing{score: 3, known: old}, []byte("cancel")),
		rankOf(standing{score: 7, known: old}, long),
	}
	require.IsIncreasing(t, ranks)
}
