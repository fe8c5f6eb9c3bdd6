package bus

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/subjects"
)

// receiving runs f for every order of class p and waits until the feed is tapped for.
func receiving(tb testing.TB, b *Bus, f *Feed, p order.Priority, h func(order.Delivery)) (stop func()) {
	tb.Helper()
	stop = background(tb, func(ctx context.Context) error { return f.Receive(ctx, p, h) })
	require.Eventually(tb, func() bool {
		b.tap.mu.Lock()
		defer b.tap.mu.Unlock()
		return len(b.tap.feeds[p]) == 1
	}, soon, tick)
	return stop
}

func TestTapFeedsEachOrderOnceAndAcksItsCopy(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	f := b.Feed("builder", "print", order.ScopeAll)
	require.NoError(t, f.Open(t.Context()))
	require.True(t, consumerInfo(t, js, "OK_HIGH", "target-builder").Config.HeadersOnly)
	y := newTally()
	receiving(t, b, f, order.PriorityHigh, func(d order.Delivery) {
		y.add(d)
		_ = f.Ack(order.PriorityHigh, d.Sequence)
	})
	publishOK(t, b, 500, order.PriorityHigh)
	require.Eventually(t, func() bool { return y.distinct() == 500 && drained(t, js, "OK_HIGH", "target-builder") }, soon, tick)
	require.Equal(t, uint64(500), consumerInfo(t, js, "OK_HIGH", "target-builder").AckFloor.Stream)
	require.Len(t, y.list, 500)
	for _, d := range y.list {
		require.NotZero(t, d.Sequence)
		require.WithinDuration(t, time.Now(), d.StoredAt, soon)
		if d.Deliveries == 0 {
			require.NotEmpty(t, d.Order.Body)
		}
		require.NotZero(t, d.Size)
	}
	require.Positive(t, testutil.ToFloat64(b.m.tapped.WithLabelValues(stageOK, "high")))
	require.Empty(t, f.classes[order.PriorityHigh].early.orders.known)
}

func TestTapLeavesToTheConsumerWhatAFullLoopDoesNotTake(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	f := b.Feed("builder", "print", order.ScopeAll)
	require.NoError(t, f.Open(t.Context()))
	y := newTally()
	room := make(chan struct{})
	var turn sync.Mutex
	receiving(t, b, f, order.PriorityLow, func(d order.Delivery) {
		require.True(t, turn.TryLock(), "one by one")
		defer turn.Unlock()
		<-room
		y.add(d)
		_ = f.Ack(order.PriorityLow, d.Sequence)
	})
	publishOK(t, b, 300, order.PriorityLow)
	require.Positive(t, testutil.ToFloat64(b.m.untapped.WithLabelValues(stageOK, "low")))
	close(room)
	require.Eventually(t, func() bool { return y.distinct() == 300 && drained(t, js, "OK_LOW", "target-builder") }, soon, tick)
}

func TestTapFeedIsHandedBetweenModesWithoutLoss(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	js := s.JetStream(t)
	y, sent := newTally(), 0
	for _, mode := range []string{TapOff, TapOn, TapOff, TapOn} {
		b := processBus(t, s, mode)
		publishOK(t, b, 10, order.PriorityMedium)
		f := b.Feed("builder", "print", order.ScopeAll)
		require.NoError(t, f.Open(t.Context()))
		require.Equal(t, mode == TapOn, consumerInfo(t, js, "OK_MEDIUM", "target-builder").Config.HeadersOnly)
		here := newTally()
		stop := background(t, func(ctx context.Context) error {
			return f.Receive(ctx, order.PriorityMedium, func(d order.Delivery) {
				here.add(d)
				y.add(d)
				if len(d.Order.Body) == 0 {
					d, err := f.Body(t.Context(), order.PriorityMedium, d.Sequence)
					require.NoError(t, err)
					require.NotEmpty(t, d.Order.Body)
				}
				if d.Sequence%2 == 0 {
					_ = f.Ack(order.PriorityMedium, d.Sequence)
				}
			})
		})
		publishOK(t, b, 10, order.PriorityMedium)
		sent += 20
		// Half of what each owner got is not acknowledged, and comes again to the next; so does what was
		// acknowledged ahead of its copy.
		require.Eventually(t, func() bool { return here.distinct() >= sent/2+10 && y.distinct() == sent }, soon, tick)
		stop()
		b.Close()
	}
}

func TestTapMatchesCopiesBySequenceAndAcceptance(t *testing.T) {
	var e early
	a, other := order.AcceptID{1}, order.AcceptID{2}
	require.True(t, e.expect(5, a))
	require.True(t, e.acked(5), "kept: the server has not handed it out")
	known, ack := e.match(5, a)
	require.True(t, known && ack)
	require.False(t, e.acked(5), "can be sent")
	require.False(t, e.expect(5, a), "its copy was handed out")
	require.False(t, e.expect(4, a))

	require.True(t, e.expect(6, a))
	known, ack = e.match(6, a)
	require.True(t, known)
	require.False(t, ack)

	require.True(t, e.expect(7, a))
	known, ack = e.match(7, other)
	require.False(t, known || ack, "a stream that was rolled back holds another order there")

	require.True(t, e.expect(8, a))
	e.cancel(8)
	require.False(t, e.acked(8))
	for i := range uint64(maxTapped) {
		require.True(t, e.expect(100+i, a))
	}
	require.False(t, e.expect(99, a))
	e.match(100+maxTapped/2, a)
	require.True(t, e.expect(1<<40, a), "what was passed and never came is let go of")
	e.reset()
	require.True(t, e.expect(1, a))
}

// What was handed out early and comes again is no news to the loop, but is handed to it: only the loop
// knows whether it has ended.
func TestTapHandsOutWhatComesAgain(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	f := b.Feed("builder", "print", order.ScopeAll)
	require.NoError(t, f.Open(t.Context()))
	y := newTally()
	receiving(t, b, f, order.PriorityHigh, y.add)
	publishOK(t, b, 1, order.PriorityHigh)
	require.Eventually(t, func() bool {
		return y.distinct() == 1 && consumerInfo(t, js, "OK_HIGH", "target-builder").NumAckPending == 1
	}, soon, tick)
	stream, sequence := subjects.StreamOK(order.PriorityHigh), y.list[0].Sequence
	l, err := b.links.link(lane{useFeed, order.PriorityHigh})
	require.NoError(t, err)
	nak := ackSubject{before: "$JS.ACK." + stream + ".target-builder."}
	require.NoError(t, l.nc.Publish(nak.of(sequence), []byte("-NAK")))
	n := len(y.list)
	require.Eventually(t, func() bool { y.mu.Lock(); defer y.mu.Unlock(); return len(y.list) > n }, soon, tick)
	again := y.list[len(y.list)-1]
	require.Equal(t, 2, again.Deliveries)
	require.Nil(t, again.Order.Body)
	require.NoError(t, f.Ack(order.PriorityHigh, sequence))
	require.Eventually(t, func() bool { return drained(t, js, "OK_HIGH", "target-builder") }, soon, tick)
}
