package bus

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/subjects"
)

func publishOK(tb testing.TB, b *Bus, n int, p order.Priority) (last uint64) {
	tb.Helper()
	for range n {
		r, err := b.PublishOK(tb.Context(), testOrder(p))
		require.NoError(tb, err)
		last = r.Sequence
	}
	return last
}

func receive(tb testing.TB, f *Feed, p order.Priority) (y *tally, stop func()) {
	tb.Helper()
	y = newTally()
	return y, background(tb, func(ctx context.Context) error { return f.Receive(ctx, p, y.add) })
}

func TestFeedHandsOutInOrderAndAcksBySequence(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	f := b.Feed("builder", "print", order.ScopeAll)
	require.NoError(t, f.Open(t.Context()))
	publishOK(t, b, 50, order.PriorityHigh)
	y, _ := receive(t, f, order.PriorityHigh)
	require.Eventually(t, func() bool { return y.distinct() == 50 }, soon, tick)
	for i, d := range y.list {
		require.Equal(t, uint64(i+1), d.Sequence)
		require.NoError(t, f.Ack(order.PriorityHigh, d.Sequence))
	}
	require.Eventually(t, func() bool { return drained(t, js, "OK_HIGH", "target-builder") }, soon, tick)
	require.Equal(t, uint64(50), consumerInfo(t, js, "OK_HIGH", "target-builder").AckFloor.Stream)
}

func TestATargetIsOwedWhatWasStoredSinceItWasDeclared(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	b.topo.MaxAge = 200 * time.Millisecond
	declared, late := b.Feed("declared", "print", order.ScopeAll), b.Feed("late", "print", order.ScopeAll)
	require.NoError(t, declared.Declare(t.Context()))
	require.NoError(t, declared.Declare(t.Context()), "once more changes nothing")
	publishOK(t, b, 3, order.PriorityHigh)
	stored := b.Now()
	require.Eventually(t, func() bool { return b.Now().Sub(stored) > 2*b.topo.MaxAge }, soon, tick)
	require.NoError(t, declared.Open(t.Context()))
	require.NoError(t, late.Open(t.Context()))
	publishOK(t, b, 1, order.PriorityHigh)
	owed, _ := receive(t, declared, order.PriorityHigh)
	require.Eventually(t, func() bool { return owed.distinct() == 4 }, soon, tick)
	rest, _ := receive(t, late, order.PriorityHigh)
	require.Eventually(t, func() bool { return rest.distinct() == 1 }, soon, tick)
}

func TestFeedReadsABodyAgain(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	f := b.Feed("builder", "print", order.ScopeAll)
	o := testOrder(order.PriorityLow)
	r, err := b.PublishOK(t.Context(), o)
	require.NoError(t, err)
	d, err := f.Body(t.Context(), order.PriorityLow, r.Sequence)
	require.NoError(t, err)
	require.Equal(t, o.Body, d.Order.Body)
	require.Equal(t, o.Accept, d.Order.Accept)
	require.Equal(t, r.Sequence, d.Sequence)
	_, err = f.Body(t.Context(), order.PriorityLow, r.Sequence+1)
	require.Error(t, err)
}

func TestRule12NewOwnerGetsWhatTheOldOneDidNotAck(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	a, b := testBus(t, s), testBus(t, s)
	old := a.Feed("builder", "print", order.ScopeAll)
	require.NoError(t, old.Open(t.Context()))
	publishOK(t, a, 20, order.PriorityMedium)
	y, stop := receive(t, old, order.PriorityMedium)
	require.Eventually(t, func() bool { return y.distinct() == 20 }, soon, tick)
	for seq := range uint64(10) {
		require.NoError(t, old.Ack(order.PriorityMedium, seq+1))
	}
	stop()
	require.Eventually(t, func() bool {
		return consumerInfo(t, s.JetStream(t), "OK_MEDIUM", "target-builder").AckFloor.Stream == 10
	}, soon, tick)
	next := b.Feed("builder", "print", order.ScopeAll)
	require.NoError(t, next.Open(t.Context()))
	y, _ = receive(t, next, order.PriorityMedium)
	// AckWait is 66 s: without the reset this would have to wait for it.
	require.Eventually(t, func() bool { return y.distinct() == 10 }, soon, tick)
	require.Equal(t, uint64(11), y.list[0].Sequence)
}

func TestRule17NewTargetStartsAtWhatMayStillBeDelivered(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	publishOK(t, b, 3, order.PriorityHigh)
	f := b.Feed("new", "print", order.ScopeAll)
	require.NoError(t, f.Open(t.Context()))
	created := consumerInfo(t, js, "OK_HIGH", "target-new")
	if b.tap != nil && b.tap.alone {
		require.Equal(t, uint64(1), created.Config.OptStartSeq, "the same by its sequence")
	} else {
		require.Equal(t, jetstream.DeliverByStartTimePolicy, created.Config.DeliverPolicy)
		require.WithinDuration(t, time.Now().Add(-36*time.Second), *created.Config.OptStartTime, soon)
	}
	require.NoError(t, b.Feed("new", "print", order.ScopeAll).Open(t.Context()))
	require.Equal(t, created.Created, consumerInfo(t, js, "OK_HIGH", "target-new").Created, "created once")
	y, _ := receive(t, f, order.PriorityHigh)
	require.Eventually(t, func() bool { return y.distinct() == 3 }, soon, tick)
}

func TestRule17OneNameHasOneURL(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	require.NoError(t, b.Feed("builder", "print", order.ScopeAll).Open(t.Context()))
	require.ErrorIs(t, b.Feed("builder", "other", order.ScopeAll).Open(t.Context()), order.ErrFingerprint)
	require.NoError(t, b.Feed("builder", "print", order.ScopeAll).Remove(t.Context()))
	require.NoError(t, b.Feed("builder", "print", order.ScopeAll).Remove(t.Context()), "removing twice is fine")
	_, err := js.Consumer(t.Context(), "OK_HIGH", "target-builder")
	require.ErrorIs(t, err, jetstream.ErrConsumerNotFound)
	require.NoError(t, b.Feed("builder", "other", order.ScopeAll).Open(t.Context()))
}

func TestWhatIsLostBetweenServerAndClientIsReadAgainAtOnce(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	f := b.Feed("builder", "print", order.ScopeAll)
	require.NoError(t, f.Open(t.Context()))
	publishOK(t, b, 5, order.PriorityHigh)
	c, err := js.Consumer(t.Context(), "OK_HIGH", "target-builder")
	require.NoError(t, err)
	lost, err := c.Fetch(5) // delivered, as the server sees it, to a connection that broke
	require.NoError(t, err)
	for range lost.Messages() {
	}
	y, _ := receive(t, f, order.PriorityHigh)
	require.Eventually(t, func() bool { return y.distinct() == 5 }, soon, tick)
	require.InDelta(t, 5, testutil.ToFloat64(b.m.repaired), 0)
	publishOK(t, b, 1, order.PriorityHigh)
	require.Eventually(t, func() bool { return y.distinct() == 6 }, soon, tick)
	for _, d := range y.list {
		require.NoError(t, f.Ack(order.PriorityHigh, d.Sequence))
	}
	require.Eventually(t, func() bool { return drained(t, js, "OK_HIGH", "target-builder") }, soon, tick)
}

func TestFeedSurvivesRestartsOfTheServer(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s)
	f := b.Feed("builder", "print", order.ScopeAll)
	require.NoError(t, f.Open(t.Context()))
	y := newTally()
	background(t, func(ctx context.Context) error {
		return f.Receive(ctx, order.PriorityHigh, func(d order.Delivery) {
			y.add(d)
			_ = f.Ack(order.PriorityHigh, d.Sequence)
		})
	})
	sent := 0
	for range 3 {
		publishOK(t, b, 300, order.PriorityHigh)
		sent += 300
		s.Restart(t)
	}
	publishOK(t, b, 1, order.PriorityHigh)
	require.Eventually(t, func() bool { return y.distinct() == sent+1 }, 2*soon, tick, "long before AckWait")
}

func TestRepairJumpsOverWhatWasDeleted(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	f := b.Feed("builder", "print", order.ScopeAll)
	require.NoError(t, f.Open(t.Context()))
	publishOK(t, b, 10, order.PriorityHigh)
	st, err := js.Stream(t.Context(), "OK_HIGH")
	require.NoError(t, err)
	require.NoError(t, st.Purge(t.Context(), jetstream.WithPurgeSequence(9)))
	y, _ := receive(t, f, order.PriorityHigh)
	require.Eventually(t, func() bool { return y.distinct() == 2 }, soon, tick)
	require.Equal(t, uint64(9), y.list[0].Sequence)
}

func TestFeedTakesVoidsAndUndecodablesOffTheStream(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	f := b.Feed("builder", "print", order.ScopeAll)
	require.NoError(t, f.Open(t.Context()))
	void, err := subjects.Void("OK_HIGH")
	require.NoError(t, err)
	for _, m := range []*nats.Msg{{Subject: void}, {Subject: subjects.OK("", order.PriorityHigh, 0), Data: []byte("?")}} {
		_, err := js.PublishMsg(t.Context(), m)
		require.NoError(t, err)
	}
	y, _ := receive(t, f, order.PriorityHigh)
	publishOK(t, b, 1, order.PriorityHigh)
	require.Eventually(t, func() bool { return y.distinct() == 1 }, soon, tick)
	require.NoError(t, f.Ack(order.PriorityHigh, y.list[0].Sequence))
	require.Eventually(t, func() bool { return drained(t, js, "OK_HIGH", "target-builder") }, soon, tick)
	require.InDelta(t, 1, testutil.ToFloat64(b.m.undecodable.WithLabelValues(stageOK, "high")), 0)
}

func TestDeletedTargetConsumerIsMadeAgain(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	f := b.Feed("builder", "print", order.ScopeAll)
	require.NoError(t, f.Open(t.Context()))
	y, _ := receive(t, f, order.PriorityHigh)
	publishOK(t, b, 3, order.PriorityHigh)
	require.Eventually(t, func() bool { return y.distinct() == 3 }, soon, tick)
	require.NoError(t, js.DeleteConsumer(t.Context(), "OK_HIGH", "target-builder"))
	publishOK(t, b, 3, order.PriorityHigh)
	require.Eventually(t, func() bool { return y.distinct() == 6 }, soon, tick)
	require.Eventually(t, func() bool { // tapped orders don't wait for it
		_, err := js.Consumer(t.Context(), "OK_HIGH", "target-builder")
		return err == nil
	}, soon, tick)
	require.Equal(t, "print", consumerInfo(t, js, "OK_HIGH", "target-builder").Config.Metadata[subjects.MetaFingerprint])
}

func TestRemovedFeedEndsReceivingAndMakesNoConsumer(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	f := b.Feed("builder", "print", order.ScopeAll)
	require.NoError(t, f.Open(t.Context()))
	publishOK(t, b, 1, order.PriorityHigh)
	ended := make(chan error, len(order.Priorities))
	got := make(chan struct{})
	for _, p := range order.Priorities {
		go func() { ended <- f.Receive(t.Context(), p, func(order.Delivery) { close(got) }) }()
	}
	<-got
	require.NoError(t, f.Remove(t.Context()))
	for range order.Priorities {
		require.NoError(t, <-ended)
	}
	for _, p := range order.Priorities {
		_, err := js.Consumer(t.Context(), subjects.StreamOK(p), "target-builder")
		require.ErrorIs(t, err, jetstream.ErrConsumerNotFound)
	}
	require.NoError(t, f.Receive(t.Context(), order.PriorityLow, func(order.Delivery) {}), "at once")
	require.ErrorIs(t, f.Open(t.Context()), errFeedRemoved)
	require.NoError(t, f.Remove(t.Context()))
	require.NoError(t, b.Feed("builder", "other", order.ScopeAll).Open(t.Context()), "the name is free")
}

func TestReceiverOfAClosedConnectionWaitsForItsEndInSilence(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	f := b.Feed("builder", "print", order.ScopeAll)
	require.NoError(t, f.Open(t.Context()))
	publishOK(t, b, 1, order.PriorityHigh)
	y, stop := receive(t, f, order.PriorityHigh)
	require.Eventually(t, func() bool { return y.distinct() == 1 }, soon, tick)
	b.links.cut()
	_, err := b.links.link(lane{use: useControl})
	require.ErrorIs(t, err, nats.ErrConnectionClosed)
	stop()
	for _, reason := range []string{reopenMissing, reopenClosed} {
		require.Zero(t, testutil.ToFloat64(b.m.reopened.WithLabelValues(stageOK, "high", reason)), reason)
	}
}

func TestAckSubjectLearnsItsFrame(t *testing.T) {
	for _, c := range []struct{ reply, want string }{
		{"$JS.ACK.OK_HIGH.target-a.3.17.20.1700000000.5", "$JS.ACK.OK_HIGH.target-a.1.42.42.0.0"},
		{"$JS.ACK.dom.acc.OK_HIGH.target-a.3.17.20.1700000000.5.tok", "$JS.ACK.dom.acc.OK_HIGH.target-a.1.42.42.0.0.tok"},
		{"_INBOX.1", "$JS.ACK.OK_HIGH.target-a.1.42.42.0.0"},
	} {
		a := ackSubject{before: "$JS.ACK.OK_HIGH.target-a."}
		a.learn(c.reply)
		require.Equal(t, c.want, a.of(42))
	}
}
