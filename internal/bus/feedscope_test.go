package bus

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/order"
)

// publishFrom stores n orders of an origin, and returns their acceptances.
func publishFrom(tb testing.TB, b *Bus, origin string, n int, p order.Priority) (all []order.AcceptID) {
	tb.Helper()
	for range n {
		o := testOrder(p)
		o.Origin = origin
		_, err := b.PublishOK(tb.Context(), o)
		require.NoError(tb, err)
		all = append(all, o.Accept)
	}
	return all
}

func TestLocalFeedIsHandedNoOrdersOfPeers(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	f := b.Feed("peer", "print", order.ScopeLocal)
	require.NoError(t, f.Open(t.Context()))
	y := newTally()
	var want []order.AcceptID
	mix := func() {
		for range 20 {
			publishFrom(t, b, "alice", 3, order.PriorityHigh)
			want = append(want, publishFrom(t, b, "", 2, order.PriorityHigh)...)
		}
		publishFrom(t, b, "alice", 3, order.PriorityHigh)
	}
	mix() // stored before anybody receives
	receiving := background(t, func(ctx context.Context) error {
		return f.Receive(ctx, order.PriorityHigh, func(d order.Delivery) {
			y.add(d)
			_ = f.Ack(order.PriorityHigh, d.Sequence)
		})
	})
	require.Eventually(t, func() bool { return y.distinct() == len(want) }, soon, tick)
	mix()
	require.Eventually(t, func() bool { return y.distinct() == len(want) && drained(t, js, "OK_HIGH", "target-peer") }, soon, tick)
	receiving()
	var got []order.AcceptID
	for _, d := range y.list {
		require.Empty(t, d.Order.Origin)
		got = append(got, d.Order.Accept)
	}
	require.Equal(t, want, got, "each once, in order")
	require.Zero(t, testutil.ToFloat64(b.m.repaired), "what is a peer's is not lost")
}

func TestLocalFeedReadsAgainWhatWasLostOnTheWay(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	f := b.Feed("peer", "print", order.ScopeLocal)
	require.NoError(t, f.Open(t.Context()))
	for range 5 {
		publishFrom(t, b, "alice", 1, order.PriorityLow)
		publishFrom(t, b, "", 1, order.PriorityLow)
	}
	c, err := js.Consumer(t.Context(), "OK_LOW", "target-peer")
	require.NoError(t, err)
	lost, err := c.Fetch(5)
	require.NoError(t, err)
	for range lost.Messages() {
	}
	y, _ := receive(t, f, order.PriorityLow)
	require.Eventually(t, func() bool { return y.distinct() == 5 }, soon, tick)
	publishFrom(t, b, "", 1, order.PriorityLow)
	require.Eventually(t, func() bool { return y.distinct() == 6 }, soon, tick)
	require.InDelta(t, 5, testutil.ToFloat64(b.m.repaired), 0)
	for _, d := range y.list {
		require.Empty(t, d.Order.Origin)
	}
}

func TestRule17OneNameHasOneScope(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	require.NoError(t, b.Feed("x", "print", order.ScopeLocal).Open(t.Context()))
	require.ErrorIs(t, b.Feed("x", "print", order.ScopeAll).Open(t.Context()), order.ErrFingerprint)
	require.NoError(t, b.Feed("x", "print", order.ScopeLocal).Open(t.Context()), "the next owner")
	all, err := b.Targets(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, order.ScopeLocal, all[0].Scope)
	require.NoError(t, b.Feed("x", "print", order.ScopeLocal).Remove(t.Context()))
	require.NoError(t, b.Feed("x", "print", order.ScopeAll).Open(t.Context()))
}
