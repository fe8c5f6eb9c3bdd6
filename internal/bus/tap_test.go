package bus

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/subjects"
)

// withTap is the prefix of the names of tests in which testBus taps.
const withTap = "TestTap"

// passing is the prefix of the names of those in which the process has the server to itself.
const passing = "TestTapPassing"

func tapOf(tb testing.TB) string {
	tb.Helper()
	if strings.HasPrefix(tb.Name(), withTap) {
		return TapOn
	}
	return TapOff
}

// consumeTapped runs f as the finish of every order.
func consumeTapped(tb testing.TB, b *Bus, y *tally, f func(context.Context, order.Delivery) error) (stop func()) {
	tb.Helper()
	stop = background(tb, func(ctx context.Context) error {
		return b.ConsumeIn(ctx, 2, func(_ context.Context, d order.Delivery, _ func()) (func(context.Context) error, error) {
			y.add(d)
			return func(ctx context.Context) error { return f(ctx, d) }, nil
		})
	})
	require.Eventually(tb, func() bool { return b.tap == nil || b.tap.pool.Load() != nil }, soon, tick)
	return stop
}

// count is a finish that counts by acceptance.
func (y *tally) finish(_ context.Context, d order.Delivery) error {
	y.add(d)
	return nil
}

func (y *tally) of(a order.AcceptID) int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.seen[a]
}

func TestTapRule21NothingHasAnEffectBeforeTheOrderIsStored(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	begun, ended := newTally(), newTally()
	consumeTapped(t, b, begun, ended.finish)
	publishAll(t, b, 1, order.PriorityHigh)
	require.Eventually(t, func() bool { return ended.distinct() == 1 }, soon, tick)
	s.Stop()
	o := testOrder(order.PriorityHigh)
	_, err := b.Publish(t.Context(), o)
	require.ErrorIs(t, err, order.ErrUnavailable)
	require.Equal(t, 1, begun.of(o.Accept), "it was worked on meanwhile")
	for _, d := range begun.list {
		require.WithinRange(t, d.TappedAt, d.Order.ReceivedAt.Add(-time.Second), time.Now(), "when it was handed over")
		require.Zero(t, d.StoredAt)
	}
	require.Zero(t, ended.of(o.Accept))
	require.InDelta(t, 1, testutil.ToFloat64(b.m.dropped.WithLabelValues("high")), 0)
	require.Nil(t, b.tap.hand.orders[o.Accept], "and forgotten")
	s.Restart(t)
	require.Eventually(t, func() bool { _, err := b.Publish(t.Context(), o); return err == nil }, soon, tick)
	require.Eventually(t, func() bool { return ended.of(o.Accept) == 1 && drained(t, js, "IN_HIGH", subjects.WorkerDurable) }, soon, tick)
	require.Equal(t, 2, ended.distinct())
}

// The acknowledgement may be lost, or come second: the consumer knows as well.
func TestTapRule21TheCopyTellsThatAnOrderIsStored(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	begun, ended := newTally(), newTally()
	consumeTapped(t, b, begun, ended.finish)
	o := testOrder(order.PriorityMedium)
	at := b.Now()
	g := b.tap.in(o)
	require.NotNil(t, g)
	require.Eventually(t, func() bool { return begun.of(o.Accept) == 1 }, soon, tick)
	require.Zero(t, ended.of(o.Accept))
	_, err := js.PublishMsg(t.Context(), message(subjects.In(o.Priority, 0), subjects.InMsgID(o), o))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return ended.of(o.Accept) == 1 }, soon, tick)
	b.tap.settled(g, o.Priority, order.Receipt{Duplicate: true, Sequence: 1}, at, nil) // a second try's answer
	require.Eventually(t, func() bool { return drained(t, js, "IN_MEDIUM", subjects.WorkerDurable) }, soon, tick)
	require.Equal(t, 1, begun.of(o.Accept))
	require.Empty(t, b.tap.hand.orders)
}

func TestTapDropsARepeatOfWhatIsStored(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	begun, ended := newTally(), newTally()
	consumeTapped(t, b, begun, ended.finish)
	first := testOrder(order.PriorityHigh)
	_, err := b.Publish(t.Context(), first)
	require.NoError(t, err)
	repeat := *first
	repeat.Accept = order.NewAcceptID(time.Now())
	r, err := b.Publish(t.Context(), &repeat)
	require.NoError(t, err)
	require.True(t, r.Duplicate)
	require.Eventually(t, func() bool { return drained(t, js, "IN_HIGH", subjects.WorkerDurable) && ended.distinct() == 1 }, soon, tick)
	require.Zero(t, ended.of(repeat.Accept))
	jobs, bytes := b.tap.pool.Load().queue.load(order.PriorityHigh)
	require.Zero(t, jobs+bytes)
}

// Whether the copy came before the order failed or comes after, it is the first delivery.
func TestTapRule08WhatFailedComesBackAsDeliveredBefore(t *testing.T) {
	t.Parallel()
	for name, copied := range map[string]bool{"before its copy": false, "after its copy": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := natstest.Start(t)
			b, js := testBus(t, s), s.JetStream(t)
			begun := newTally()
			consumeTapped(t, b, begun, func(_ context.Context, d order.Delivery) error {
				if d.Deliveries > 1 {
					return nil
				}
				for copied && b.tap.hand.orders[d.Order.Accept].message() == nil {
					runtime.Gosched()
				}
				return retry.After(errors.New("later"), time.Millisecond)
			})
			o := testOrder(order.PriorityHigh)
			_, err := b.Publish(t.Context(), o)
			require.NoError(t, err)
			require.Eventually(t, func() bool { return begun.of(o.Accept) == 2 && drained(t, js, "IN_HIGH", subjects.WorkerDurable) }, soon, tick)
			again := begun.list[1]
			require.True(t, again.Seen)
			require.Equal(t, 2, again.Deliveries)
			require.Equal(t, o.Body, again.Order.Body)
		})
	}
}

func TestTapBringsWhatAnotherProcessStored(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	door := processBus(t, s, TapOff)
	begun, ended := newTally(), newTally()
	publishAll(t, door, 5, order.PriorityLow) // a backlog
	consumeTapped(t, b, begun, ended.finish)
	for _, p := range order.Priorities {
		publishAll(t, door, 20, p)
		publishAll(t, b, 20, p)
	}
	require.Eventually(t, func() bool { return ended.distinct() == 125 }, soon, tick)
	for _, d := range ended.list {
		require.NotEmpty(t, d.Order.Body)
		require.Len(t, d.Order.Body, d.Size)
	}
	for _, stream := range []string{"IN_HIGH", "IN_MEDIUM", "IN_LOW"} {
		require.Eventually(t, func() bool { return drained(t, js, stream, subjects.WorkerDurable) }, soon, tick)
	}
	require.Len(t, ended.list, 125, "each once")
	require.GreaterOrEqual(t, fetched(b), 65.0)
}

func fetched(b *Bus) (n float64) {
	for _, p := range order.Priorities {
		n += testutil.ToFloat64(b.m.fetched.WithLabelValues(p.String()))
	}
	return n
}

// The consumer is the tapping process's alone: a worker elsewhere takes nothing, whether it came
// before or after.
func TestTapRule21WorkersElsewhereStandBack(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	before := processBus(t, s, TapOff)
	y := newTally()
	background(t, func(ctx context.Context) error { return before.ConsumeIn(ctx, 2, y.handle) })
	publishAll(t, before, 10, order.PriorityHigh)
	require.Eventually(t, func() bool { return y.distinct() == 10 }, soon, tick)

	b, js := testBus(t, s), s.JetStream(t)
	after := processBus(t, s, TapOff)
	background(t, func(ctx context.Context) error { return after.ConsumeIn(ctx, 2, y.handle) })
	begun, ended := newTally(), newTally()
	consumeTapped(t, b, begun, ended.finish)
	for range 50 {
		publishAll(t, b, 4, order.PriorityHigh)
		publishAll(t, before, 1, order.PriorityHigh)
	}
	require.Eventually(t, func() bool { return ended.distinct() == 250 && drained(t, js, "IN_HIGH", subjects.WorkerDurable) }, 2*soon, tick)
	require.Equal(t, 10, y.distinct())
	require.Len(t, ended.list, 250)
	require.True(t, consumerInfo(t, js, "IN_HIGH", subjects.WorkerDurable).Config.HeadersOnly)
}

func TestTapIsSwitchedOnAndOffOverABacklog(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	js := s.JetStream(t)
	ended, sent := newTally(), 0
	for _, mode := range []string{TapOff, TapOn, TapOff, TapOn} {
		b := processBus(t, s, mode)
		if mode == TapOff {
			require.NoError(t, b.put(t.Context(), subjects.BucketState, stateTap, []byte(TapOff)))
			_, err := b.Apply(t.Context())
			require.NoError(t, err)
		}
		require.Equal(t, mode == TapOn, consumerInfo(t, js, "IN_LOW", subjects.WorkerDurable).Config.HeadersOnly)
		publishAll(t, b, 30, order.PriorityLow)
		stop := consumeTapped(t, b, newTally(), ended.finish)
		publishAll(t, b, 30, order.PriorityLow)
		stop()
		publishAll(t, b, 30, order.PriorityLow)
		sent += 90
		b.Close()
	}
	b := testBus(t, s)
	consumeTapped(t, b, newTally(), ended.finish)
	require.Eventually(t, func() bool { return ended.distinct() == sent && drained(t, js, "IN_LOW", subjects.WorkerDurable) }, soon, tick)
	for _, d := range ended.list {
		require.NotEmpty(t, d.Order.Body)
	}
}

func TestTapLeavesAClassAloneThatTheStoreRefuses(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t), func(o *subjects.Options) { o.InMaxBytes = 64 << 10 })
	begun, ended := newTally(), newTally()
	consumeTapped(t, b, begun, ended.finish)
	stored, refused := 0, newTally()
	for range 300 {
		o := testOrder(order.PriorityHigh)
		o.Body = make([]byte, 1<<10)
		if _, err := b.Publish(t.Context(), o); err != nil {
			require.ErrorIs(t, err, order.ErrFull)
			refused.add(order.Delivery{Order: o})
			continue
		}
		stored++
	}
	require.Positive(t, refused.distinct())
	require.Eventually(t, func() bool { return ended.distinct() == stored }, soon, tick)
	for a := range refused.seen {
		require.Zero(t, ended.of(a))
	}
	require.LessOrEqual(t, testutil.ToFloat64(b.m.dropped.WithLabelValues("high")), 3.0, "one a second")
}

func TestTapHandsOutWhatTheStoreWould(t *testing.T) {
	o := testOrder(order.PriorityMedium)
	o.Deadline = o.Deadline.Add(123 * time.Nanosecond)
	o.ReceivedAt = o.ReceivedAt.Add(321)
	o.Signature, o.Batch, o.Traceparent, o.ShareNonce, o.TargetBlock = "X: y", "0/1:aa", "00-1", 7, 9
	stored, err := subjects.DecodeOrder(subjects.EncodeOrder(o), o.Body)
	require.NoError(t, err)
	require.Equal(t, stored, readBack(o))
}

// By itself, not beside others: it keeps the processors busy, and collecting has a bound.
func TestTapEndsWithNothingLeftToAcknowledge(t *testing.T) {
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	begun, ended := newTally(), newTally()
	stop := consumeTapped(t, b, begun, ended.finish)
	var senders sync.WaitGroup
	for _, p := range order.Priorities {
		senders.Go(func() { publishAll(t, b, 500, p) })
	}
	senders.Wait()
	require.Eventually(t, func() bool { return begun.distinct() == 1500 }, soon, time.Millisecond) // what is not goes back
	stop()
	require.Equal(t, 1500, ended.distinct())
	require.Len(t, ended.list, 1500)
	require.Empty(t, b.tap.hand.orders)
	require.Zero(t, b.tap.hand.ended)
	for _, stream := range []string{"IN_HIGH", "IN_MEDIUM", "IN_LOW"} {
		require.Eventually(t, func() bool { return drained(t, js, stream, subjects.WorkerDurable) }, soon, tick)
	}
	require.InDelta(t, 0, fetched(b), 0)
}

func TestTapForgetsWhatNoCopyComesOfAndIsBounded(t *testing.T) {
	h := newHand(time.Minute)
	held, done := h.take(order.AcceptID{1}, order.PriorityHigh), h.take(order.AcceptID{2}, order.PriorityHigh)
	require.Nil(t, h.take(order.AcceptID{2}, order.PriorityHigh))
	done.stored(7, time.Now())
	require.Nil(t, done.end(stateDone, 0))
	require.Equal(t, 1, h.waiting())
	h.tidy(time.Now().Add(59 * time.Second))
	require.Equal(t, 1, h.waiting())
	h.tidy(time.Now().Add(2 * time.Minute))
	require.Zero(t, h.waiting())
	require.Len(t, h.orders, 1, "what is held is not forgotten")
	require.True(t, held.drop())
	require.False(t, held.drop())
	for i := range maxTapped {
		require.NotNil(t, h.take(order.AcceptID{3, byte(i), byte(i >> 8), byte(i >> 16)}, order.PriorityHigh))
	}
	require.Nil(t, h.take(order.AcceptID{4}, order.PriorityHigh))
}

func TestTapDoesNotOvertakeWhatWaitsForRoom(t *testing.T) {
	q := newQueue(2)
	tapped := func(size int) *job { return testJob(order.PriorityHigh, size) }
	for range 10 {
		require.True(t, q.offer(tapped(1)))
	}
	require.True(t, q.roomFor(order.PriorityHigh, tapBytes-10))
	require.False(t, q.roomFor(order.PriorityHigh, tapBytes-9))
	put := make(chan bool, 1)
	brought := testJob(order.PriorityHigh, 1)
	go func() { put <- q.put(brought) }()
	require.Eventually(t, func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.classes[order.PriorityHigh].putting == 1
	}, soon, tick)
	require.False(t, q.offer(tapped(1)))
	require.True(t, q.offer(testJob(order.PriorityLow, 1)), "the other classes go on")
	for range 9 {
		q.done(q.take())
	}
	require.True(t, <-put)
	last := tapped(1)
	require.True(t, q.offer(last))
	q.withdraw(last)
	q.withdraw(last)
	tappedBefore, jobOfPut, low := q.take(), q.take(), q.take()
	require.NotNil(t, tappedBefore)
	require.Same(t, brought, jobOfPut)
	require.Equal(t, order.PriorityLow, low.delivery.Order.Priority, "the withdrawn one is gone")
	jobs, bytes := q.load(order.PriorityHigh)
	require.Equal(t, []int{2, 2}, []int{jobs, bytes}, "begun")
}

// A worker of the same process need not read again what the door has read, over a body of its own.
func TestTapHandsOnWhatTheDoorHasRead(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	begun := newTally()
	consumeTapped(t, b, begun, newTally().finish)
	o := testOrder(order.PriorityHigh)
	o.Body = []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle","params":[{"txs":["0x01"]}]}`)
	params := o.Body[bytes.IndexByte(o.Body, '['):]
	var err error
	o.Reading, err = order.Decode(o.Method, params[:len(params)-1], order.Limits{})
	require.NoError(t, err)
	want := string(o.Reading.Params)
	_, err = b.Publish(t.Context(), o)
	require.NoError(t, err)
	clear(o.Body) // the door uses it again
	require.Eventually(t, func() bool { return begun.distinct() == 1 }, soon, tick)
	require.Equal(t, want, string(begun.list[0].Order.Reading.Params))
}
