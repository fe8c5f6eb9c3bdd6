package bus

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/subjects"
)

func withReplays(o *subjects.Options) { o.Replay = true }

// replaying consumes marked orders with h until the returned function is called.
func replaying(tb testing.TB, b *Bus, h func(d order.Delivery) (func(context.Context) error, error)) (stop func()) {
	tb.Helper()
	return background(tb, func(ctx context.Context) error {
		return b.ConsumeReplay(ctx, func(_ context.Context, d order.Delivery, yield func()) (func(context.Context) error, error) {
			yield()
			return h(d)
		})
	})
}

func streamSize(tb testing.TB, s *natstest.Server, name string) uint64 {
	tb.Helper()
	st, err := s.JetStream(tb).Stream(tb.Context(), name)
	require.NoError(tb, err)
	return st.CachedInfo().State.Msgs
}

func TestRule20AMarkedOrderIsSeenByNoLiveConsumer(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s, withReplays)
	o := testOrder(order.PriorityHigh)
	r, err := b.PublishReplay(t.Context(), o)
	require.NoError(t, err)
	require.False(t, r.Duplicate)
	r, err = b.PublishReplay(t.Context(), o)
	require.NoError(t, err)
	require.True(t, r.Duplicate)
	r, err = b.Publish(t.Context(), o)
	require.NoError(t, err)
	require.False(t, r.Duplicate, "the live order has an id of its own")

	got := make(chan order.Delivery, 8)
	replaying(t, b, func(d order.Delivery) (func(context.Context) error, error) { got <- d; return nil, nil })
	d := <-got
	require.Equal(t, o.ID, d.Order.ID)
	require.Equal(t, string(o.Body), string(d.Order.Body))
	require.False(t, d.Seen)
	require.Eventually(t, func() bool { return streamSize(t, s, subjects.StreamReplay) == 0 }, soon, tick)
	require.NoError(t, b.RecordReplay(t.Context(), o, []byte("entry")))
	require.NoError(t, b.RecordReplay(t.Context(), o, []byte("entry")))
	require.Equal(t, uint64(1), streamSize(t, s, subjects.StreamReplayDone))
	var records []string
	read := func(subject string, batch []byte, _ time.Time) error {
		records = append(records, subject+" "+string(batch))
		return nil
	}
	require.NoError(t, b.ReplayLedger(t.Context(), time.Now().Add(-time.Hour), read))
	require.Equal(t, []string{"orders.done.replay.high entry"}, records)
	require.NoError(t, b.Ledger(t.Context(), time.Now().Add(-time.Hour), read))
	require.Len(t, records, 1, "it is not in the ledger")

	for _, p := range order.Priorities {
		want := uint64(0)
		if p == order.PriorityHigh {
			want = 1
		}
		require.Equal(t, want, streamSize(t, s, subjects.StreamIn(p)))
		require.Zero(t, streamSize(t, s, subjects.StreamOK(p)))
	}
	require.Zero(t, streamSize(t, s, subjects.StreamDone))
	require.Zero(t, streamSize(t, s, subjects.StreamRejected))
	require.Eventually(t, func() bool { return streamSize(t, s, subjects.StreamRecord) == 1 }, soon, tick, "the live one")
}

func TestWithoutReplaysThereIsNoLedgerOfThem(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	err := b.ReplayLedger(t.Context(), time.Now(), func(string, []byte, time.Time) error { return nil })
	require.ErrorIs(t, err, ErrNoLog)
}

func TestRule20ARefusedReplayRefusesNoLiveOrder(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t), withReplays)
	id := order.ID{1, 2}
	reason := order.Refuse(order.CodeGasLimit, "intrinsic gas too low")
	waiting := make(chan *order.Reason, 1)
	go func() {
		r, _ := b.AwaitReplayRefusal(t.Context(), id)
		waiting <- r
	}()
	require.NoError(t, b.PutReplayRefusal(t.Context(), id, reason))
	require.Equal(t, reason, <-waiting)
	got, err := b.ReplayRefusal(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, reason, got)
	live, err := b.Refusal(t.Context(), id)
	require.NoError(t, err)
	require.Nil(t, live)

	require.NoError(t, b.PutRefusal(t.Context(), order.ID{3}, reason))
	got, err = b.ReplayRefusal(t.Context(), order.ID{3})
	require.NoError(t, err)
	require.Nil(t, got)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	got, err = b.AwaitReplayRefusal(ctx, order.ID{9})
	require.NoError(t, err)
	require.Nil(t, got)
}

func TestMarkedOrdersComeBackUntilTheyAreSettled(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s, withReplays)
	var mu sync.Mutex
	tries := map[order.ID]int{}
	for range 20 {
		_, err := b.PublishReplay(t.Context(), testOrder(order.PriorityLow))
		require.NoError(t, err)
	}
	h := func(d order.Delivery) (func(context.Context) error, error) {
		mu.Lock()
		defer mu.Unlock()
		tries[d.Order.ID]++
		if tries[d.Order.ID] != d.Deliveries || d.Seen != (d.Deliveries > 1) {
			t.Errorf("delivery %d, seen %v, is number %d", d.Deliveries, d.Seen, tries[d.Order.ID])
		}
		switch tries[d.Order.ID] {
		case 1:
			return nil, errors.New("not now")
		case 2:
			return func(context.Context) error { return errors.New("not stored") }, nil
		}
		return func(context.Context) error { return order.Refuse(order.CodeGasLimit, "final") }, nil
	}
	replaying(t, b, h)
	require.Eventually(t, func() bool { return streamSize(t, s, subjects.StreamReplay) == 0 }, soon, 10*tick)
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, tries, 20)
	for _, n := range tries {
		require.Equal(t, 3, n)
	}
}

func TestReplaysGoOnAfterARestart(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s, withReplays)
	got := make(chan order.ID, 100)
	replaying(t, b, func(d order.Delivery) (func(context.Context) error, error) { got <- d.Order.ID; return nil, nil })
	for range 3 {
		o := testOrder(order.PriorityMedium)
		require.Eventually(t, func() bool { _, err := b.PublishReplay(t.Context(), o); return err == nil }, soon, tick)
		require.Equal(t, o.ID, <-got)
		s.Restart(t)
	}
}

func TestWhatIsNoOrderEndsTheReplaysOfNoOther(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s, withReplays)
	_, err := s.JetStream(t).Publish(t.Context(), subjects.ReplayIn(order.PriorityHigh, 0), []byte("x"))
	require.NoError(t, err)
	o := testOrder(order.PriorityHigh)
	_, err = b.PublishReplay(t.Context(), o)
	require.NoError(t, err)
	got := make(chan order.ID, 1)
	replaying(t, b, func(d order.Delivery) (func(context.Context) error, error) { got <- d.Order.ID; return nil, nil })
	require.Equal(t, o.ID, <-got)
	require.Eventually(t, func() bool { return streamSize(t, s, subjects.StreamReplay) == 0 }, soon, tick)
}
