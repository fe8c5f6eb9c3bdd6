package bus

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/subjects"
)

func passed(b *Bus, stage string, p order.Priority) float64 {
	return testutil.ToFloat64(b.m.passed.WithLabelValues(stage, p.String()))
}

func TestTapPassingReadsNoCopies(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	begun, ended, fed := newTally(), newTally(), newTally()
	f := b.Feed("builder", "print", order.ScopeAll)
	require.NoError(t, f.Open(t.Context()))
	receiving(t, b, f, order.PriorityHigh, func(d order.Delivery) {
		fed.add(d)
		_ = f.Ack(order.PriorityHigh, d.Sequence)
	})
	consumeTapped(t, b, begun, ended.finish)
	store := func(n int) {
		for range n {
			o := testOrder(order.PriorityHigh)
			_, err := b.Publish(t.Context(), o)
			require.NoError(t, err)
			_, err = b.PublishOK(t.Context(), o)
			require.NoError(t, err)
		}
	}
	consumers := []struct{ stage, stream, durable string }{
		{stageIn, "IN_HIGH", subjects.WorkerDurable}, {stageOK, "OK_HIGH", "target-builder"},
	}
	read := func(stage string) float64 { return testutil.ToFloat64(b.m.delivered.WithLabelValues(stage, "high")) }
	before := make(map[string]float64)
	store(100) // some of them are read before the first look
	for _, c := range consumers {
		require.Eventually(t, func() bool { return drained(t, js, c.stream, c.durable) }, soon, tick)
		before[c.stage] = read(c.stage)
	}
	store(200)
	for _, c := range consumers {
		require.Eventually(t, func() bool { return drained(t, js, c.stream, c.durable) }, soon, tick)
		require.Equal(t, uint64(300), consumerInfo(t, js, c.stream, c.durable).AckFloor.Stream)
		require.Eventually(t, func() bool { // counted after the answer to the move
			return passed(b, c.stage, order.PriorityHigh)+read(c.stage) == 300
		}, soon, tick)
		require.Less(t, read(c.stage)-before[c.stage], 50.0, c.stage) // what there was no room for
	}
	require.Equal(t, 300, ended.distinct())
	require.Equal(t, 300, fed.distinct())
	require.Len(t, ended.list, 300)
	require.Len(t, fed.list, 300)
	h, e := b.tap.hand, &f.classes[order.PriorityHigh].early
	require.Eventually(t, func() bool { // what is known goes after the answer to the move
		h.mu.Lock()
		defer h.mu.Unlock()
		e.mu.Lock()
		defer e.mu.Unlock()
		return len(h.orders)+len(h.stored[order.PriorityHigh].known)+len(e.orders.known) == 0
	}, soon, tick)
}

// publishUntilPassed publishes orders until the consumer has been moved over some: on a busy machine it may bring
// the first ones itself. It returns how many there are.
func publishUntilPassed(t *testing.T, b *Bus, p order.Priority) (n int) {
	t.Helper()
	for end := time.Now().Add(soon); passed(b, stageIn, p) == 0; n++ {
		require.True(t, time.Now().Before(end), "none was passed over")
		publishAll(t, b, 1, p)
		time.Sleep(tick)
	}
	return n
}

// What has not ended keeps the consumer below it, so it comes again to who takes over.
func TestTapPassingStopsBelowWhatHasNotEnded(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	begun, ended := newTally(), newTally()
	stuck := testOrder(order.PriorityMedium)
	stop := consumeTapped(t, b, begun, func(ctx context.Context, d order.Delivery) error {
		if d.Order.Accept == stuck.Accept {
			<-ctx.Done()
			return ctx.Err()
		}
		return ended.finish(ctx, d)
	})
	n := publishUntilPassed(t, b, order.PriorityMedium)
	_, err := b.Publish(t.Context(), stuck)
	require.NoError(t, err)
	publishAll(t, b, 20, order.PriorityMedium)
	require.Eventually(t, func() bool {
		return ended.distinct() == n+20 && consumerInfo(t, js, "IN_MEDIUM", subjects.WorkerDurable).AckFloor.Stream == uint64(n)
	}, soon, tick)
	stop()
	require.Equal(t, uint64(n), consumerInfo(t, js, "IN_MEDIUM", subjects.WorkerDurable).AckFloor.Stream)

	again := newTally()
	next := processBus(t, s, TapOn)
	consumeTapped(t, next, newTally(), again.finish)
	require.Eventually(t, func() bool { return again.of(stuck.Accept) == 1 }, soon, tick)
}

func TestTapPassingFindsWhatWasNotTapped(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	ended := newTally()
	consumeTapped(t, b, newTally(), ended.finish)
	n := publishUntilPassed(t, b, order.PriorityHigh)
	// As an order whose publish timed out and was stored all the same (CORRECTNESS 4).
	door := processBus(t, s, TapOff)
	publishAll(t, door, 1, order.PriorityHigh)
	publishAll(t, b, 20, order.PriorityHigh)
	require.Eventually(t, func() bool { return ended.distinct() == n+21 && drained(t, js, "IN_HIGH", subjects.WorkerDurable) }, soon, tick)
	require.Len(t, ended.list, n+21)
}

func TestTapPassingHandsOutAgainWhatFailed(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	ended := newTally()
	var fail atomic.Bool
	consumeTapped(t, b, newTally(), func(ctx context.Context, d order.Delivery) error {
		if d.Deliveries == 1 && fail.Load() {
			return retry.After(errors.New("later"), time.Millisecond)
		}
		return ended.finish(ctx, d)
	})
	publishAll(t, b, 20, order.PriorityHigh)
	require.Eventually(t, func() bool { return passed(b, stageIn, order.PriorityHigh) > 0 }, soon, tick)
	fail.Store(true)
	publishAll(t, b, 20, order.PriorityHigh)
	require.Eventually(t, func() bool { return ended.distinct() == 40 && drained(t, js, "IN_HIGH", subjects.WorkerDurable) }, soon, tick)
	require.Len(t, ended.list, 40)
	for _, d := range ended.list[20:] {
		require.True(t, d.Seen)
	}
}

// Sequences of a stream that was made again mean other orders.
func TestTapPassingForgetsSequencesOfAnotherStream(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	ended := newTally()
	consumeTapped(t, b, newTally(), ended.finish)
	publishAll(t, b, 30, order.PriorityLow)
	require.Eventually(t, func() bool { return passed(b, stageIn, order.PriorityLow) > 0 }, soon, tick)
	require.NoError(t, js.DeleteStream(t.Context(), "IN_LOW"))
	// Left behind by the old one, and ended.
	left := b.tap.hand.take(order.NewAcceptID(time.Now()), order.PriorityLow)
	left.stored(1, time.Now())
	require.Nil(t, left.end(stateDone, 0))
	_, err := b.Apply(t.Context())
	require.NoError(t, err)
	door := processBus(t, s, TapOff)
	publishAll(t, door, 3, order.PriorityLow)
	require.Eventually(t, func() bool { return ended.distinct() == 33 && drained(t, js, "IN_LOW", subjects.WorkerDurable) }, soon, tick)
}

// Whatever ends, is dropped or stays unknown in whatever order: nothing is passed that has not ended, and
// what is not known is not overlooked.
func TestRunPassesNothingThatHasNotEnded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var r run[standing]
		truth := make(map[uint64]standing) // zero: unknown
		var at, last uint64
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			seq := rapid.Uint64Range(at+1, at+8).Draw(t, "sequence")
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				s := rapid.SampledFrom([]standing{standingHeld, standingEnded, standingAgain}).Draw(t, "standing")
				truth[seq] = s
				r.add(seq, s)
			case 1:
				delete(truth, seq)
				r.remove(seq)
			case 2:
				last = max(last, seq)
			default:
				to, stranger := r.passable(at, last, func(s standing) standing { return s })
				if to < at {
					t.Fatalf("back from %d to %d", at, to)
				}
				for s := at + 1; s <= to; s++ {
					if truth[s] != standingEnded {
						t.Fatalf("%d passed as %d", s, truth[s])
					}
				}
				if _, known := truth[to+1]; !known && to < last && !stranger {
					t.Fatalf("%d of %d is overlooked", to+1, last)
				}
				r.pass(to, func(s standing) bool { return s == standingEnded })
				at = to
			}
		}
	})
}
