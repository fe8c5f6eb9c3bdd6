package upkeep

import (
	"bytes"
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/order"
	"millrace/subjects"
)

const window = 300 * time.Millisecond

func newPurge(js jetstream.JetStream, cfg PurgeConfig) *Purge {
	cfg.Window = window
	return NewPurge(js, cfg, discard(), prometheus.NewRegistry())
}

// sweepUntil sweeps until f holds.
func sweepUntil(t *testing.T, p *Purge, f func() bool) {
	t.Helper()
	eventually(t, func() bool {
		require.NoError(t, p.Sweep(t.Context()))
		return f()
	})
}

// sweepFor sweeps for some windows of the server's time, long enough for everything to be old.
func sweepFor(t *testing.T, p *Purge) {
	t.Helper()
	until := time.Now().Add(4 * window)
	sweepUntil(t, p, func() bool { return time.Now().After(until) })
}

func TestRule01PurgeTakesWhatTheWorkersAreDoneWith(t *testing.T) {
	t.Parallel()
	_, js := started(t)
	in := subjects.StreamIn(order.PriorityHigh)
	publish(t, js, subjects.In(order.PriorityHigh, 0), 10)
	take(t, js, in, subjects.WorkerDurable, 6)
	p := newPurge(js, PurgeConfig{})
	sweepUntil(t, p, func() bool { return state(t, js, in).FirstSeq == 7 })
	sweepFor(t, p)
	require.Equal(t, uint64(7), state(t, js, in).FirstSeq, "the rest is not done")
}

func TestRule01NothingInsideTheDuplicateWindowIsPurged(t *testing.T) {
	t.Parallel()
	_, js := started(t)
	in := subjects.StreamIn(order.PriorityHigh)
	p := NewPurge(js, PurgeConfig{Window: time.Hour}, discard(), prometheus.NewRegistry())
	require.NoError(t, p.Sweep(t.Context()))
	publish(t, js, subjects.In(order.PriorityHigh, 0), 5)
	take(t, js, in, subjects.WorkerDurable, 5)
	sweepFor(t, p)
	require.Equal(t, uint64(5), state(t, js, in).Msgs)
}

func TestRule01InWithoutItsConsumerIsNeverPurged(t *testing.T) {
	t.Parallel()
	_, js := started(t)
	in := subjects.StreamIn(order.PriorityHigh)
	publish(t, js, subjects.In(order.PriorityHigh, 0), 5)
	take(t, js, in, subjects.WorkerDurable, 5)
	require.NoError(t, js.DeleteConsumer(t.Context(), in, subjects.WorkerDurable))
	// Somebody looking with the nats CLI is not the workers.
	_, err := js.CreateConsumer(t.Context(), in, jetstream.ConsumerConfig{Durable: "cli", AckPolicy: jetstream.AckExplicitPolicy})
	require.NoError(t, err)
	take(t, js, in, "cli", 5)
	sweepFor(t, newPurge(js, PurgeConfig{}))
	require.Equal(t, uint64(5), state(t, js, in).Msgs)
}

func TestRule01EveryTargetHoldsOkAndNoPeerDoes(t *testing.T) {
	t.Parallel()
	_, js := started(t)
	ok := subjects.StreamOK(order.PriorityHigh)
	now := time.Now()
	for _, target := range []string{"a", "b"} {
		_, err := js.CreateConsumer(t.Context(), ok, subjects.TargetConsumer(target, "f", now, time.Hour))
		require.NoError(t, err)
	}
	_, err := js.CreateConsumer(t.Context(), ok, jetstream.ConsumerConfig{Durable: "peer-x", AckPolicy: jetstream.AckExplicitPolicy})
	require.NoError(t, err)
	publish(t, js, subjects.OK("", order.PriorityHigh, 0), 9)
	take(t, js, ok, subjects.TargetDurable("a"), 9)
	p := newPurge(js, PurgeConfig{})
	sweepFor(t, p)
	require.Equal(t, uint64(9), state(t, js, ok).Msgs, "b has nothing yet")
	take(t, js, ok, subjects.TargetDurable("b"), 4)
	sweepUntil(t, p, func() bool { return state(t, js, ok).FirstSeq == 5 })
}

func TestRule01ATargetOfLocalOrdersHoldsNoOthers(t *testing.T) {
	t.Parallel()
	_, js := started(t)
	ok := subjects.StreamOK(order.PriorityHigh)
	cfg := subjects.Scoped(subjects.TargetConsumer("peer", "f", time.Now(), time.Hour), order.ScopeLocal, order.PriorityHigh)
	_, err := js.CreateConsumer(t.Context(), ok, cfg)
	require.NoError(t, err)
	publish(t, js, subjects.OK("", order.PriorityHigh, 0), 2)
	publish(t, js, subjects.OK("alice", order.PriorityHigh, 0), 3)
	p := newPurge(js, PurgeConfig{})
	sweepFor(t, p)
	require.Equal(t, uint64(5), state(t, js, ok).Msgs, "it has nothing yet")
	take(t, js, ok, subjects.TargetDurable("peer"), 1)
	sweepUntil(t, p, func() bool { return state(t, js, ok).FirstSeq == 2 })
	take(t, js, ok, subjects.TargetDurable("peer"), 1)
	sweepUntil(t, p, func() bool { return state(t, js, ok).Msgs == 0 })
}

func TestRule01OkWithoutTargetWaitsForOneThatMayBeOwedIt(t *testing.T) {
	t.Parallel()
	_, js := started(t)
	ok := subjects.StreamOK(order.PriorityLow)
	publish(t, js, subjects.OK("", order.PriorityLow, 0), 5)
	p := newPurge(js, PurgeConfig{})
	sweepFor(t, p)
	require.Equal(t, uint64(5), state(t, js, ok).Msgs)
	// The same, later than a new target could reach back.
	for _, s := range p.streams {
		for i := range s.history.marks {
			s.history.marks[i].from = s.history.marks[i].from.Add(-subjects.AckWaitMargin - time.Second)
		}
	}
	sweepUntil(t, p, func() bool { return state(t, js, ok).Msgs == 0 })
}

func TestRule01RecordHoldsInUntilItHasCopied(t *testing.T) {
	t.Parallel()
	_, js := started(t)
	in, high := subjects.StreamIn(order.PriorityHigh), subjects.In(order.PriorityHigh, 3)
	publish(t, js, high, 8)
	eventually(t, func() bool { return state(t, js, subjects.StreamRecord).Msgs == 8 })
	// A RECORD that no longer copies, without the guard having stopped it.
	rec := subjects.Record(testOptions())
	rec.Sources = nil
	_, err := js.UpdateStream(t.Context(), rec)
	require.NoError(t, err)
	publish(t, js, high, 4)
	take(t, js, in, subjects.WorkerDurable, 12)
	p := newPurge(js, PurgeConfig{Record: true})
	sweepUntil(t, p, func() bool { return state(t, js, in).FirstSeq == 9 })
	sweepFor(t, p)
	require.Equal(t, uint64(4), state(t, js, in).Msgs, "not copied yet")
	_, err = js.UpdateStream(t.Context(), subjects.Record(testOptions()))
	require.NoError(t, err)
	sweepUntil(t, p, func() bool { return state(t, js, in).Msgs == 0 })
	require.Equal(t, uint64(12), state(t, js, subjects.StreamRecord).Msgs, "nothing was lost in between")
}

func TestRule01PausedRecordDoesNotHoldAndItsGapIsCounted(t *testing.T) {
	t.Parallel()
	_, js := started(t)
	in, high := subjects.StreamIn(order.PriorityHigh), subjects.In(order.PriorityHigh, 3)
	publish(t, js, high, 8)
	eventually(t, func() bool { return state(t, js, subjects.StreamRecord).Msgs == 8 })
	rec := subjects.Record(testOptions())
	rec.Sources = nil
	_, err := js.UpdateStream(t.Context(), rec)
	require.NoError(t, err)
	publish(t, js, high, 4)
	take(t, js, in, subjects.WorkerDurable, 12)

	var paused atomic.Bool
	paused.Store(true)
	out, reg := &bytes.Buffer{}, prometheus.NewRegistry()
	p := NewPurge(js, PurgeConfig{Window: window, Record: true, RecordPaused: paused.Load}, slog.New(slog.NewTextHandler(out, nil)), reg)
	sweepUntil(t, p, func() bool { return state(t, js, in).Msgs == 0 })
	require.InDelta(t, 4, gauge(t, reg, "millrace_bus_record_gap_orders_total", "high"), 0)
	require.Contains(t, out.String(), "first=9")

	_, err = js.UpdateStream(t.Context(), subjects.Record(testOptions()))
	require.NoError(t, err)
	paused.Store(false)
	require.NoError(t, p.Sweep(t.Context()))
	require.Contains(t, out.String(), "first=9 last=12")
	publish(t, js, high, 2)
	eventually(t, func() bool { return state(t, js, subjects.StreamRecord).Msgs == 10 })
	require.InDelta(t, 4, gauge(t, reg, "millrace_bus_record_gap_orders_total", "high"), 0)
}

func TestRule01PurgeRunsOnThroughARestartAndIsConservativeAfterIt(t *testing.T) {
	t.Parallel()
	s, js := started(t)
	in := subjects.StreamIn(order.PriorityHigh)
	publish(t, js, subjects.In(order.PriorityHigh, 0), 5)
	take(t, js, in, subjects.WorkerDurable, 5)
	fresh := NewPurge(js, PurgeConfig{Window: time.Minute}, discard(), prometheus.NewRegistry())
	s.Kill(t)
	eventually(t, func() bool { return fresh.Sweep(t.Context()) == nil })
	require.Equal(t, uint64(5), state(t, js, in).Msgs, "their age is not known")

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	p := newPurge(js, PurgeConfig{Record: true})
	go func() { done <- p.Run(ctx) }()
	c, err := js.Consumer(t.Context(), in, subjects.WorkerDurable)
	require.NoError(t, err)
	eventually(t, func() bool {
		again, err := c.FetchNoWait(5) // a kill gives back what was acked last (rule 12)
		require.NoError(t, err)
		for m := range again.Messages() {
			require.NoError(t, m.DoubleAck(t.Context()))
		}
		return state(t, js, in).Msgs == 0
	})
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

// What rule 1 says about the duplicate window, on the server that we pin: a purge forgets no id,
// a restart forgets the ids of what is no longer stored, and only those.
func TestRule01IdsOfPurgedOrdersAreForgottenByARestart(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"none", "clean", "kill"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, js := started(t)
			in := subjects.StreamIn(order.PriorityHigh)
			cfg := subjects.Streams(testOptions())[0]
			cfg.Duplicates = time.Minute
			_, err := js.UpdateStream(t.Context(), cfg)
			require.NoError(t, err)
			send := func(id string) (duplicate bool) {
				ack, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: subjects.In(order.PriorityHigh, 0)}, jetstream.WithMsgID(id))
				require.NoError(t, err)
				return ack.Duplicate
			}
			require.False(t, send("purged"))
			require.False(t, send("stored"))
			stream, err := js.Stream(t.Context(), in)
			require.NoError(t, err)
			require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSequence(2)))
			switch name {
			case "clean":
				s.Restart(t)
			case "kill":
				s.Kill(t)
			}
			eventually(t, func() bool { _, err := js.Stream(t.Context(), in); return err == nil })
			require.True(t, send("stored"))
			require.Equal(t, name == "none", send("purged"))
		})
	}
}

func FuzzSourcedSequence(f *testing.F) {
	f.Add("IN_HIGH 12 > >", "IN_HIGH")
	f.Add("IN_HIGH 12 > > orders.in.high.00 abc", "IN_HIGH")
	f.Add("", "")
	f.Add("IN_LOW x", "IN_LOW")
	f.Fuzz(func(t *testing.T, header, stream string) {
		if _, err := sourcedSequence(header, stream); err == nil {
			require.True(t, len(header) > len(stream) && header[:len(stream)] == stream)
		}
	})
}
