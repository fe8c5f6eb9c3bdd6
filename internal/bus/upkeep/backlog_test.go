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

func TestABlindBacklogDatesWhatItFindsFromItsStart(t *testing.T) {
	s, js := started(t)
	publish(t, js, subjects.In(order.PriorityHigh, 0), 20)
	first := messageTime(t, js, subjects.StreamIn(order.PriorityHigh), 1)
	eventually(t, func() bool { return time.Since(first) > 700*time.Millisecond })
	since := time.Now()
	b := NewBacklog(s.JetStream(t), discard(), prometheus.NewRegistry()).Blind()
	require.NoError(t, b.classes[0].sample(t.Context()))
	require.LessOrEqual(t, b.Oldest(order.PriorityHigh), time.Since(since))
	require.Positive(t, b.Oldest(order.PriorityHigh))
}
