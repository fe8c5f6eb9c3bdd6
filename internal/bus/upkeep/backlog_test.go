package upkeep

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/subjects"
)

// watched runs a Backlog until the returned function is called.
func watched(t *testing.T, s *natstest.Server) (*Backlog, *prometheus.Registry, func()) {
	t.Helper()
	reg := prometheus.NewRegistry()
	b := NewBacklog(s.JetStream(t), discard(), reg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = b.Run(ctx) }()
	stop := func() { cancel(); <-done }
	t.Cleanup(stop)
	return b, reg, stop
}

func TestBacklogAgesWithTheOldestOrderOfItsClass(t *testing.T) {
	t.Parallel()
	s, js := started(t)
	b, reg, _ := watched(t, s)
	require.Zero(t, b.Oldest(order.PriorityLow))
	publish(t, js, subjects.In(order.PriorityLow, 0), 3)
	since := time.Now()
	eventually(t, func() bool { return b.Oldest(order.PriorityLow) > 300*time.Millisecond })
	require.LessOrEqual(t, b.Oldest(order.PriorityLow), time.Since(since)+2*backlogEvery+time.Second)
	require.Zero(t, b.Oldest(order.PriorityHigh))
	require.Zero(t, b.Oldest(0))
	require.InDelta(t, 3, gauge(t, reg, "millrace_bus_queue_pending_orders", "low"), 0)

	take(t, js, subjects.StreamIn(order.PriorityLow), subjects.WorkerDurable, 3)
	eventually(t, func() bool { return b.Oldest(order.PriorityLow) == 0 })
	eventually(t, func() bool { return gauge(t, reg, "millrace_bus_queue_pending_orders", "low") == 0 })
}

func gauge(t *testing.T, reg *prometheus.Registry, name, priority string) float64 {
	t.Helper()
	fams, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range fams {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetLabel()[0].GetValue() == priority {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	require.Fail(t, "no metric", name)
	return 0
}

func TestBacklogAgeIsThatOfTheFirstUnfinishedWhateverIsDoneBehindIt(t *testing.T) {
	t.Parallel()
	s, js := started(t)
	b, _, _ := watched(t, s)
	in := subjects.StreamIn(order.PriorityMedium)
	publish(t, js, subjects.In(order.PriorityMedium, 0), 1)
	eventually(t, func() bool { return b.Oldest(order.PriorityMedium) > 200*time.Millisecond })
	publish(t, js, subjects.In(order.PriorityMedium, 0), 5)
	c, err := js.Consumer(t.Context(), in, subjects.WorkerDurable)
	require.NoError(t, err)
	stuck, err := c.Next(jetstream.FetchMaxWait(patience))
	require.NoError(t, err)
	take(t, js, in, subjects.WorkerDurable, 5)
	before := b.Oldest(order.PriorityMedium)
	eventually(t, func() bool { return b.Oldest(order.PriorityMedium) > before+200*time.Millisecond })
	require.NoError(t, stuck.DoubleAck(t.Context()))
	eventually(t, func() bool { return b.Oldest(order.PriorityMedium) == 0 })
}

func TestBacklogKnowsItsAgeAfterAStart(t *testing.T) {
	t.Parallel()
	s, js := started(t)
	publish(t, js, subjects.In(order.PriorityHigh, 0), 20)
	first := messageTime(t, js, subjects.StreamIn(order.PriorityHigh), 1)
	s.Restart(t)
	eventually(t, func() bool { return time.Since(first) > 700*time.Millisecond })
	b, _, _ := watched(t, s)
	eventually(t, func() bool { return b.Oldest(order.PriorityHigh) > 0 })
	require.GreaterOrEqual(t, b.Oldest(order.PriorityHigh), 600*time.Millisecond)
}

func messageTime(t *testing.T, js jetstream.JetStream, stream string, seq uint64) time.Time {
	t.Helper()
	s, err := js.Stream(t.Context(), stream)
	require.NoError(t, err)
	m, err := s.GetMsg(t.Context(), seq)
	require.NoError(t, err)
	return m.Time
}

func TestBacklogSurvivesARestartOfTheServer(t *testing.T) {
	t.Parallel()
	s, js := started(t)
	b, _, _ := watched(t, s)
	publish(t, js, subjects.In(order.PriorityHigh, 0), 1)
	eventually(t, func() bool { return b.Oldest(order.PriorityHigh) > 0 })
	s.Kill(t)
	before := b.Oldest(order.PriorityHigh)
	eventually(t, func() bool { return b.Oldest(order.PriorityHigh) > before })
}

func TestBacklogSeriesExistFromTheStart(t *testing.T) {
	reg := prometheus.NewRegistry()
	NewBacklog(nil, discard(), reg)
	n, err := testutil.GatherAndCount(reg)
	require.NoError(t, err)
	require.Equal(t, 9, n)
}

// A process that may not read orders learns the age of a backlog without reading one.
func TestABlindBacklogKnowsItsAgeAfterAStart(t *testing.T) {
	t.Parallel()
	s, js := started(t)
	in := subjects.StreamIn(order.PriorityHigh)
	publish(t, js, subjects.In(order.PriorityHigh, 0), 20)
	first := messageTime(t, js, in, 1)
	eventually(t, func() bool { return time.Since(first) > 700*time.Millisecond })
	b := NewBacklog(s.JetStream(t), discard(), prometheus.NewRegistry()).Blind()
	require.NoError(t, b.classes[0].sample(t.Context()))
	require.GreaterOrEqual(t, b.Oldest(order.PriorityHigh), 700*time.Millisecond)
	require.LessOrEqual(t, b.Oldest(order.PriorityHigh), time.Since(first)+time.Second)

	// What is done stays in the stream for a while.
	publish(t, js, subjects.In(order.PriorityHigh, 0), 20)
	last := messageTime(t, js, in, 40)
	take(t, js, in, subjects.WorkerDurable, 39)
	b = NewBacklog(s.JetStream(t), discard(), prometheus.NewRegistry()).Blind()
	eventually(t, func() bool {
		require.NoError(t, b.classes[0].sample(t.Context()))
		age := b.Oldest(order.PriorityHigh)
		return age > 0 && age <= time.Since(last) // and not that of the first, which is done
	})
}

func TestABlindBacklogDatesByTheEndsOfTheStream(t *testing.T) {
	now := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	ago := func(seconds int) time.Time { return now.Add(-time.Duration(seconds) * time.Second) }
	state := jetstream.StreamState{Msgs: 31, FirstSeq: 10, FirstTime: ago(40), LastSeq: 40, LastTime: ago(10)}
	for name, c := range map[string]struct {
		first, seen uint64
		state       jetstream.StreamState
		want        int // seconds; zero: not known
	}{
		"all of it waits":            {first: 10, seen: 40, state: state, want: 40},
		"some is done":               {first: 30, seen: 40, state: state, want: 20},
		"only the last waits":        {first: 40, seen: 40, state: state, want: 10},
		"more came since the sample": {first: 10, seen: 35, state: state, want: 40},
		"the oldest is gone":         {first: 5, seen: 40, state: state, want: 40},
		"nothing of it is there":     {first: 41, seen: 41, state: state},
		"empty":                      {first: 10, seen: 40, state: jetstream.StreamState{FirstSeq: 41, LastSeq: 40}},
		"stored after the sample":    {first: 10, seen: 40, state: jetstream.StreamState{Msgs: 1, FirstSeq: 10, LastSeq: 10, FirstTime: now.Add(time.Second)}},
	} {
		t.Run(name, func(t *testing.T) {
			var cl class
			require.Equal(t, c.want > 0, cl.seedBy(c.state, c.first, c.seen, now))
			if c.want == 0 {
				return
			}
			cl.history.add(c.seen, now)
			at, ok := cl.history.dated(c.first)
			require.True(t, ok)
			require.InDelta(t, float64(c.want), now.Sub(at).Seconds(), 0.001)
		})
	}
}
