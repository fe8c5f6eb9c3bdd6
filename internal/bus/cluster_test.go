package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/subjects"
)

// elected bounds what waits for an election: four to nine seconds each.
const elected = 40 * time.Second

// clusterBus connects a Bus to a cluster as a process of its own would, with three copies of everything.
func clusterBus(t *testing.T, c *natstest.Cluster) *Bus {
	t.Helper()
	cfg := Config{URL: c.URL(), Sync: SyncInterval, Replicas: 3}
	b, err := Dial(t.Context(), cfg, testTopology(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(b.Close)
	require.Eventually(t, func() bool { _, err := b.Apply(t.Context()); return err == nil }, elected, 50*time.Millisecond)
	return b
}

// It has the machine to itself: three servers that choose leaders beside five other tests need minutes.
func TestOrdersAndRecordsOutliveTheLeadersOfTheirStreams(t *testing.T) {
	c := natstest.StartCluster(t)
	b := clusterBus(t, c)
	js := c.JetStream(t)
	for _, s := range []string{subjects.StreamIn(order.PriorityHigh), subjects.StreamDone, "KV_" + subjects.BucketLeases} {
		st, err := js.Stream(t.Context(), s)
		require.NoError(t, err)
		require.Equal(t, 3, st.CachedInfo().Config.Replicas)
	}
	l := b.Done("builder")
	require.NoError(t, l.Tail(t.Context(), time.Now().Add(-time.Minute), nil))
	orders := make([]*order.Order, 120)
	for i := range orders {
		orders[i] = testOrder(order.PriorityHigh)
	}
	for i, o := range orders {
		switch i {
		case 40:
			c.Stop(c.Leader(t, subjects.StreamIn(order.PriorityHigh)))
		case 80:
			for n := range 3 {
				c.Stop(n) // the one that is stopped stays so for a moment
				c.Start(t, n)
			}
		}
		require.Eventually(t, func() bool {
			_, err := b.Publish(t.Context(), o)
			require.True(t, err == nil || errors.Is(err, order.ErrUnavailable), "%v", err)
			return err == nil
		}, elected, 20*time.Millisecond)
		require.NoError(t, l.Append(t.Context(), fmt.Appendf(nil, "%d", i)))
	}
	st, err := js.Stream(t.Context(), subjects.StreamIn(order.PriorityHigh))
	require.NoError(t, err)
	require.Equal(t, uint64(len(orders)), st.CachedInfo().State.Msgs, "each once")
	for i, o := range orders {
		r, err := b.Publish(t.Context(), o)
		require.NoError(t, err)
		require.True(t, r.Duplicate, "the leaders that follow know the ids")
		require.Equal(t, uint64(i)+1, r.Sequence)
	}

	// A new owner reads all of it and fences the old one off.
	next, i := b.Done("builder"), 0
	require.Eventually(t, func() bool { // a request may time out on a busy machine, but a part is never the whole
		i = 0
		return next.Tail(t.Context(), time.Now().Add(-time.Hour), func(batch []byte) error {
			require.Equal(t, fmt.Sprint(i), string(batch))
			i++
			return nil
		}) == nil
	}, elected, 20*time.Millisecond)
	require.Equal(t, len(orders), i)
	require.NoError(t, next.Append(t.Context(), []byte("mine")))
	require.ErrorIs(t, l.Append(t.Context(), []byte("late")), order.ErrFenced)
}

// Rule 12: what a new owner reads of the ledger is complete, whichever copy of the stream it reads.
func TestRule12TailWaitsForACopyOfTheLedgerThatIsBehind(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	l := b.Done("builder")
	since := time.Now().Add(-time.Minute)
	require.NoError(t, l.Tail(t.Context(), since, nil))
	require.NoError(t, l.Append(t.Context(), []byte("1")))
	require.NoError(t, l.Append(t.Context(), []byte("2")))
	var got []string
	arrives := time.AfterFunc(100*time.Millisecond, func() { _ = l.Append(context.WithoutCancel(t.Context()), []byte("3")) })
	defer arrives.Stop()
	require.NoError(t, l.read(t.Context(), since, 3, func(batch []byte) error {
		got = append(got, string(batch))
		return nil
	}))
	require.Equal(t, []string{"1", "2", "3"}, got, "each once")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.Error(t, l.read(ctx, since, 9, func([]byte) error { return nil }), "never a part for the whole")
}

func TestOnlyAnUpToDateCopySaysThatAnOrderIsGone(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s)
	b.topo.Replicas = 3
	publishOK(t, b, 5, order.PriorityHigh)
	r := &receiver{feed: b.Feed("builder", "print", order.ScopeAll), class: order.PriorityHigh}
	require.True(t, r.behind(t.Context(), 3, 6), "the leader has it")
	require.False(t, r.behind(t.Context(), 6, 7), "nobody has it")
	st, err := s.JetStream(t).Stream(t.Context(), subjects.StreamOK(order.PriorityHigh))
	require.NoError(t, err)
	require.NoError(t, st.Purge(t.Context(), jetstream.WithPurgeSequence(4)))
	require.False(t, r.behind(t.Context(), 1, 4), "purged")
	require.True(t, r.behind(t.Context(), 1, 6))
	s.Stop()
	require.True(t, r.behind(t.Context(), 1, 4), "not known")
	b.topo.Replicas = 1
	require.False(t, r.behind(t.Context(), 1, 4), "there is one copy")
}
