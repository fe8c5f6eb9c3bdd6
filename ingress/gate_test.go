package ingress

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/order"
)

func TestGateLetsTheBestKnownInFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 8, 64)
		require.True(t, g.tryEnter())
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
		g := newGate(1, 2, 64)
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
		g := newGate(1, 2, 64)
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
		g := newGate(1, 64, 64)
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
		rankOf(standing{known: old, lowly: true}, long),
		rankOf(standing{score: 3, known: old}, []byte("cancel")),
		rankOf(standing{score: 7, known: old}, long),
	}
	require.IsIncreasing(t, ranks)
}

// tryEnter takes a slot if that needs no waiting.
func (g *gate) tryEnter() bool { return g.enqueue(0) == nil }

func TestGateKeepsBulkToItsPlaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(8, 8, 2)
		bulk := rank(rankUnknown << rankClass)
		require.NoError(t, g.enter(t.Context(), bulk, time.Hour))
		require.NoError(t, g.enter(t.Context(), bulk, time.Hour))
		entered := 0
		for range 2 {
			go func() {
				if g.enter(t.Context(), bulk, time.Hour) == nil {
					entered++
				}
			}()
			synctest.Wait()
		}
		require.Zero(t, entered, "slots are free, places are not")
		g.leave()
		synctest.Wait()
		require.Zero(t, entered, "a slot that is given back is no place")
		require.NoError(t, g.enter(t.Context(), rank(7), time.Hour), "the best class needs no place and waits for nobody")
		g.vacate(lotUnknown)
		synctest.Wait()
		require.Equal(t, 1, entered)
		g.vacate(lotUnknown)
		synctest.Wait()
		require.Equal(t, 2, entered)
		require.Zero(t, g.waiting())
	})
}

func TestLowRequestsTakeNoPlaceFromUnknownOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(8, 8, 1)
		low, bad, unknown := rank(rankLowly<<rankClass), rank(rankBad<<rankClass), rank(rankUnknown<<rankClass)
		require.NoError(t, g.enter(t.Context(), bad, time.Hour))
		entered := false
		go func() { entered = g.enter(t.Context(), low, time.Hour) == nil }()
		synctest.Wait()
		require.False(t, entered, "bad and lowly ones share")
		require.NoError(t, g.enter(t.Context(), unknown, time.Hour))
		g.vacate(lotUnknown)
		synctest.Wait()
		require.False(t, entered, "nor the other way round")
		g.vacate(lotLow)
		synctest.Wait()
		require.True(t, entered)
	})
}

func TestSenderOfLowOrdersIsTakenForOne(t *testing.T) {
	t.Parallel()
	e, now := new(entity), time.Unix(1000, 0)
	e.accepted(now)
	for range 2 * lowlyMemory {
		e.classified(order.PriorityLow)
	}
	require.True(t, e.standing(netip.Addr{}, now).lowly)
	for range 2 * lowlyMemory {
		e.classified(order.PriorityHigh)
	}
	require.False(t, e.standing(netip.Addr{}, now).lowly)
}

func TestRawBlobTransactionIsKnownByItsFirstBytes(t *testing.T) {
	t.Parallel()
	require.True(t, blobTransaction([]byte(`{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":["0x03f8"]}`)))
	for _, body := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":["0x02f8"]}`,
		`{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle","params":[{"txs":["0x03f8"]}]}`, // a hash could look the same
		``,
	} {
		require.False(t, blobTransaction([]byte(body)), body)
	}
}
