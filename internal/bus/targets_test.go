package bus

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/subjects"
)

func TestRule17TargetsListsWhatIsInTheStoreServedOrNot(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s)
	none, err := b.Targets(t.Context())
	require.NoError(t, err)
	require.Empty(t, none)

	require.NoError(t, b.Feed("served", "print", order.ScopeAll).Open(t.Context()))
	left := b.Feed("left", "old print", order.ScopeAll)
	require.NoError(t, left.Open(t.Context()))
	publishOK(t, b, 3, order.PriorityHigh)
	publishOK(t, b, 2, order.PriorityLow)
	y, stop := receive(t, left, order.PriorityLow)
	require.Eventually(t, func() bool { return y.distinct() == 2 }, soon, tick)
	stop()
	require.NoError(t, left.Ack(order.PriorityLow, 1))

	holding := make(chan struct{})
	release := background(t, func(ctx context.Context) error {
		return b.Hold(ctx, "target-served", func(ctx context.Context, _ func() bool) error {
			close(holding)
			<-ctx.Done()
			return nil
		})
	})
	<-holding
	var all []TargetState
	require.Eventually(t, func() bool {
		all, err = b.Targets(t.Context())
		return err == nil && len(all) == 2 && all[0].AckPending == 1
	}, soon, tick)
	require.Equal(t, "left", all[0].Name)
	require.Equal(t, "old print", all[0].Fingerprint)
	require.False(t, all[0].Held)
	require.Equal(t, uint64(3), all[0].Pending)
	require.Positive(t, all[0].Oldest)
	require.Equal(t, "served", all[1].Name)
	require.True(t, all[1].Held)
	require.Equal(t, uint64(5), all[1].Pending)
	release()
	all, err = b.Targets(t.Context())
	require.NoError(t, err)
	require.False(t, all[1].Held, "released")
}

func TestTargetsOfAStoreWithoutStreams(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	for _, p := range order.Priorities {
		l, err := b.links.link(lane{use: useControl})
		require.NoError(t, err)
		require.NoError(t, l.js.DeleteStream(t.Context(), subjects.StreamOK(p)))
	}
	all, err := b.Targets(t.Context())
	require.NoError(t, err)
	require.Empty(t, all)
}
