package bus

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/subjects"
)

// tally counts what a handler saw, by acceptance.
type tally struct {
	mu   sync.Mutex
	seen map[order.AcceptID]int
	list []order.Delivery
}

func newTally() *tally { return &tally{seen: make(map[order.AcceptID]int)} }

func (y *tally) add(d order.Delivery) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.seen[d.Order.Accept]++
	y.list = append(y.list, d)
}

func (y *tally) distinct() int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return len(y.seen)
}

func (y *tally) handle(_ context.Context, d order.Delivery, _ func()) (func(context.Context) error, error) {
	y.add(d)
	return nil, nil
}

func publishAll(tb testing.TB, b *Bus, n int, p order.Priority) {
	tb.Helper()
	for range n {
		_, err := b.Publish(tb.Context(), testOrder(p))
		require.NoError(tb, err)
	}
}

func TestConsumedOrdersAreAckedAfterTheirFinish(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	y := newTally()
	release := make(chan struct{})
	stop := background(t, func(ctx context.Context) error {
		return b.ConsumeIn(ctx, 2, func(_ context.Context, d order.Delivery, _ func()) (func(context.Context) error, error) {
			y.add(d)
			return func(context.Context) error { <-release; return nil }, nil
		})
	})
	require.Eventually(t, func() bool { return b.tap == nil || b.tap.pool.Load() != nil }, soon, tick)
	for _, p := range order.Priorities {
		publishAll(t, b, 5, p)
	}
	require.Eventually(t, func() bool { return y.distinct() == 15 }, soon, tick, "finishing does not occupy the slots")
	if b.tap == nil || !b.tap.alone {
		require.Eventually(t, func() bool { return consumerInfo(t, js, "IN_HIGH", subjects.WorkerDurable).NumAckPending == 5 }, soon, tick)
	}
	require.Zero(t, consumerInfo(t, js, "IN_HIGH", subjects.WorkerDurable).AckFloor.Stream)
	close(release)
	for _, stream := range []string{"IN_HIGH", "IN_MEDIUM", "IN_LOW"} {
		require.Eventually(t, func() bool { return drained(t, js, stream, subjects.WorkerDurable) }, soon, tick)
	}
	stop()
	d := y.list[0]
	require.Equal(t, 1, d.Deliveries)
	if tapOf(t) == TapOn {
		require.Zero(t, d.Sequence, "not known yet")
	} else {
		require.NotZero(t, d.Sequence)
		require.WithinDuration(t, time.Now(), d.StoredAt, soon)
	}
	require.Len(t, d.Order.Body, d.Size)
}

func TestRule08UnknownErrorIsDeliveredAgainAndRefusalIsNot(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	var tries, refused atomic.Int32
	bad := testOrder(order.PriorityLow)
	background(t, func(ctx context.Context) error {
		return b.ConsumeIn(ctx, 1, func(_ context.Context, d order.Delivery, _ func()) (func(context.Context) error, error) {
			if d.Order.Accept == bad.Accept {
				refused.Add(1)
				return nil, order.Refuse(order.CodeMalformed, "no")
			}
			return func(context.Context) error {
				if n := tries.Add(1); n < 6 { // more than any usual delivery limit
					return retry.After(errors.New("later"), time.Millisecond)
				}
				return nil
			}, nil
		})
	})
	publishAll(t, b, 1, order.PriorityHigh)
	_, err := b.Publish(t.Context(), bad)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return tries.Load() == 6 && refused.Load() == 1 }, soon, tick)
	require.Eventually(t, func() bool {
		return drained(t, js, "IN_HIGH", subjects.WorkerDurable) && drained(t, js, "IN_LOW", subjects.WorkerDurable)
	}, soon, tick)
	require.Equal(t, int32(6), tries.Load())
	require.Equal(t, int32(1), refused.Load())
}

func TestUrgentOrderRunsBetweenTheStepsOfAnotherInTheSameSlot(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	var mu sync.Mutex
	var events []string
	note := func(e string) { mu.Lock(); events = append(events, e); mu.Unlock() }
	started, published := make(chan struct{}), make(chan struct{})
	background(t, func(ctx context.Context) error {
		return b.ConsumeIn(ctx, 1, func(_ context.Context, d order.Delivery, yield func()) (func(context.Context) error, error) {
			if d.Order.Priority == order.PriorityHigh {
				note("high")
				yield() // nothing is more urgent
				return nil, nil
			}
			note("low begins")
			close(started)
			<-published
			deadline := time.Now().Add(soon)
			for testutil.ToFloat64(b.m.nested) == 0 && time.Now().Before(deadline) {
				yield()
			}
			note("low ends")
			return nil, nil
		})
	})
	publishAll(t, b, 1, order.PriorityLow)
	<-started
	publishAll(t, b, 1, order.PriorityHigh)
	close(published)
	require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(events) == 3 }, soon, tick)
	require.Equal(t, []string{"low begins", "high", "low ends"}, events)
}

func TestOrdersOfADeadWorkerGoToAnotherOne(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	publishAll(t, b, 3, order.PriorityHigh)
	c, err := js.Consumer(t.Context(), "IN_HIGH", subjects.WorkerDurable)
	require.NoError(t, err)
	dead, err := c.Fetch(3) // takes them and never answers
	require.NoError(t, err)
	for m := range dead.Messages() {
		require.NotNil(t, m)
	}
	y := newTally()
	background(t, func(ctx context.Context) error { return b.ConsumeIn(ctx, 1, y.handle) })
	require.Eventually(t, func() bool { return y.distinct() == 3 }, soon, tick)
	require.Equal(t, 2, y.list[0].Deliveries)
}

func TestOrderThatTakesLongIsNotHandedOutTwice(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	var runs atomic.Int32
	ended := make(chan struct{})
	background(t, func(ctx context.Context) error {
		return b.ConsumeIn(ctx, 2, func(context.Context, order.Delivery, func()) (func(context.Context) error, error) {
			runs.Add(1)
			<-ended
			return nil, nil
		})
	})
	publishAll(t, b, 1, order.PriorityLow)
	require.Eventually(t, func() bool { return runs.Load() == 1 }, soon, tick)
	never(t, func() bool { return runs.Load() > 1 }, subjects.WorkerAckWait+time.Second, "it is held")
	close(ended)
	require.Eventually(t, func() bool { return drained(t, js, "IN_LOW", subjects.WorkerDurable) }, soon, tick)
}

func TestShutdownFinishesWhatWasBegunAndHandsBackTheRest(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	workers, err := js.Consumer(t.Context(), "IN_HIGH", subjects.WorkerDurable)
	require.NoError(t, err)
	patient := workers.CachedInfo().Config
	patient.AckWait = time.Hour // what is not given back does not come
	_, err = js.UpdateConsumer(t.Context(), "IN_HIGH", patient)
	require.NoError(t, err)
	publishAll(t, b, 200, order.PriorityHigh)
	var begun, finished atomic.Int32
	gate := make(chan struct{})
	stop := background(t, func(ctx context.Context) error {
		return b.ConsumeIn(ctx, 1, func(context.Context, order.Delivery, func()) (func(context.Context) error, error) {
			begun.Add(1)
			<-gate
			return func(ctx context.Context) error { finished.Add(1); return ctx.Err() }, nil
		})
	})
	require.Eventually(t, func() bool { return begun.Load() == 1 }, soon, tick)
	time.AfterFunc(20*time.Millisecond, func() { close(gate) })
	stop()
	require.Equal(t, begun.Load(), finished.Load())
	y := newTally()
	background(t, func(ctx context.Context) error { return b.ConsumeIn(ctx, 1, y.handle) })
	want := 200 - int(finished.Load())
	require.Eventually(t, func() bool { return y.distinct() >= want }, soon, tick)
	require.Eventually(t, func() bool { return drained(t, js, "IN_HIGH", subjects.WorkerDurable) }, soon, tick)
}

func TestNothingIsLostWhenTheServerRestartsUnderPublishAndConsume(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	y := newTally()
	background(t, func(ctx context.Context) error { return b.ConsumeIn(ctx, 2, y.handle) })
	var stored sync.Map
	var wg sync.WaitGroup
	var count atomic.Int32
	for _, p := range order.Priorities {
		wg.Go(func() {
			for range 1000 {
				o := testOrder(p)
				for {
					if _, err := b.Publish(t.Context(), o); err == nil {
						break
					}
				}
				stored.Store(o.Accept, true)
				count.Add(1)
			}
		})
	}
	for _, n := range []int32{500, 1500} {
		require.Eventually(t, func() bool { return count.Load() > n }, soon, time.Millisecond)
		s.Restart(t)
	}
	wg.Wait()
	require.Eventually(t, func() bool { return y.distinct() == 3000 }, 2*soon, tick)
	y.mu.Lock()
	for a := range y.seen {
		_, ok := stored.Load(a)
		require.True(t, ok)
	}
	y.mu.Unlock()
	for _, stream := range []string{"IN_HIGH", "IN_MEDIUM", "IN_LOW"} {
		require.Eventually(t, func() bool { return drained(t, js, stream, subjects.WorkerDurable) }, soon, tick)
	}
}

func TestDeletedConsumerIsMadeAgain(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	y := newTally()
	background(t, func(ctx context.Context) error { return b.ConsumeIn(ctx, 1, y.handle) })
	publishAll(t, b, 5, order.PriorityMedium)
	require.Eventually(t, func() bool { return y.distinct() == 5 }, soon, tick)
	require.Eventually(t, func() bool { return drained(t, js, "IN_MEDIUM", subjects.WorkerDurable) }, soon, tick)
	require.NoError(t, js.DeleteConsumer(t.Context(), "IN_MEDIUM", subjects.WorkerDurable))
	publishAll(t, b, 5, order.PriorityMedium)
	require.Eventually(t, func() bool { return y.distinct() == 10 }, soon, tick)
	require.Eventually(t, func() bool { // tapped orders don't wait for it
		return testutil.ToFloat64(b.m.reopened.WithLabelValues(stageIn, "medium", reopenMissing)) == 1
	}, soon, tick)
}

func TestVoidAndUndecodableMessagesAreTakenOffTheStream(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	void, err := subjects.Void("IN_HIGH")
	require.NoError(t, err)
	for _, m := range []*nats.Msg{
		{Subject: void},
		{Subject: subjects.In(order.PriorityHigh, 1), Data: []byte("no header")},
		{Subject: subjects.In(order.PriorityHigh, 1), Header: subjects.EncodeOrder(testOrder(order.PriorityLow))},
	} {
		_, err := js.PublishMsg(t.Context(), m)
		require.NoError(t, err)
	}
	publishAll(t, b, 1, order.PriorityHigh)
	y := newTally()
	background(t, func(ctx context.Context) error { return b.ConsumeIn(ctx, 1, y.handle) })
	require.Eventually(t, func() bool { return drained(t, js, "IN_HIGH", subjects.WorkerDurable) && y.distinct() == 1 }, soon, tick)
	require.InDelta(t, 2, testutil.ToFloat64(b.m.undecodable.WithLabelValues(stageIn, "high")), 0)
}

func TestWhatAProcessHoldsOfAClassIsBounded(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	publishAll(t, b, 200, order.PriorityLow)
	gate := make(chan struct{})
	background(t, func(ctx context.Context) error {
		return b.ConsumeIn(ctx, 1, func(context.Context, order.Delivery, func()) (func(context.Context) error, error) {
			<-gate
			return nil, nil
		})
	})
	t.Cleanup(func() { close(gate) })
	held := func() int { return consumerInfo(t, js, "IN_LOW", subjects.WorkerDurable).NumAckPending }
	require.Eventually(t, func() bool { return held() > room }, soon, tick)
	never(t, func() bool { return held() > 1+1+room+16 }, 300*time.Millisecond,
		"one in the slot, one at the queue's door, the queue's room, one prefetch")
}

func TestSilentConsumerIsSuspectedOnTheSecondLook(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	publishAll(t, b, 1, order.PriorityHigh) // waits, and nobody is given it
	c, err := js.Consumer(t.Context(), "IN_HIGH", subjects.WorkerDurable)
	require.NoError(t, err)
	// The consumer learns of what was stored a moment later.
	require.Eventually(t, func() bool { return consumerInfo(t, js, "IN_HIGH", subjects.WorkerDurable).NumPending == 1 }, soon, tick)
	p := &puller{stage: stageIn, priority: order.PriorityHigh, m: b.m}
	silent, missing := p.look(t.Context(), c)
	require.False(t, silent || missing)
	silent, _ = p.look(t.Context(), c)
	require.True(t, silent)
	batch, err := c.Fetch(1)
	require.NoError(t, err)
	for range batch.Messages() {
	}
	silent, _ = p.look(t.Context(), c)
	require.False(t, silent)
	require.NoError(t, js.DeleteConsumer(t.Context(), "IN_HIGH", subjects.WorkerDurable))
	_, missing = p.look(t.Context(), c)
	require.True(t, missing)
	require.ErrorIs(t, func() error { _, err := js.Consumer(t.Context(), "IN_HIGH", "workers"); return err }(), jetstream.ErrConsumerNotFound)
}

// Seen is false only for what nobody can have handed out before.
func TestRule12WhatIsOlderThanTheConnectionMayHaveBeenSeen(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s)
	publishAll(t, b, 1, order.PriorityHigh)
	y := newTally()
	background(t, func(ctx context.Context) error { return b.ConsumeIn(ctx, 1, y.handle) })
	require.Eventually(t, func() bool { return y.distinct() == 1 }, soon, tick)
	require.True(t, y.list[0].Seen, "it was there before us")

	young := func() bool { // publishes until one is taken as never seen
		publishAll(t, b, 1, order.PriorityHigh)
		y.mu.Lock()
		defer y.mu.Unlock()
		return !y.list[len(y.list)-1].Seen
	}
	require.Eventually(t, young, soon, 50*time.Millisecond)
	s.Restart(t)
	y.mu.Lock()
	n := len(y.list)
	y.mu.Unlock()
	require.Eventually(t, func() bool {
		_, err := b.Publish(t.Context(), testOrder(order.PriorityHigh))
		return err == nil
	}, soon, tick)
	require.Eventually(t, func() bool {
		y.mu.Lock()
		defer y.mu.Unlock()
		return len(y.list) > n
	}, soon, tick)
	y.mu.Lock()
	require.True(t, y.list[n].Seen, "the server may have forgotten")
	y.mu.Unlock()
	require.Eventually(t, young, soon, 50*time.Millisecond)
}

func TestRedeliveryIsSeen(t *testing.T) {
	d := order.Delivery{Deliveries: 2, StoredAt: time.Now()}
	require.True(t, seen(d, time.Now().Add(-time.Hour)))
	d.Deliveries = 1
	require.False(t, seen(d, time.Now().Add(-time.Hour)))
	require.True(t, seen(d, time.Now()))
}
