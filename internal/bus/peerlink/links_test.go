package peerlink

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus/upkeep"
	"millrace/internal/order"
	"millrace/subjects"
)

func TestOrdersOfEachClassArriveInOrderAndOnce(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	inboxes := map[order.Priority]*inbox{}
	for _, c := range order.Priorities {
		inboxes[c] = b.receive(t, "a", c)
	}
	const n = 50
	for i := range n {
		for _, c := range order.Priorities {
			a.store(t, c, i+1, []byte("body"))
		}
	}
	for _, c := range order.Priorities {
		inboxes[c].await(t, n)
		require.Equal(t, upTo(n), inboxes[c].nonces(), c.String())
		for i, m := range inboxes[c].all() {
			require.Equal(t, uint64(i+1), m.Sequence)
			require.Equal(t, uint64(i+1), m.OriginSequence)
			require.Equal(t, c, m.Order.Priority)
			require.Equal(t, "body", string(m.Body))
			require.False(t, m.Redelivered)
			require.WithinDuration(t, time.Now(), m.ArrivedAt, soon)
		}
	}
	eventuallyMetric(t, b, `millrace_peers_connected{direction="fetching",lane="bulk",peer="a"} 1`)
	eventuallyMetric(t, a, `millrace_peers_connected{direction="serving",lane="high",peer="b"} 1`)
	require.Eventually(t, func() bool {
		s := a.links.State()
		return len(s) == 1 && s[0].Peer == "b" && len(s[0].Serving) == 2 && s[0].Serving[0].Connected &&
			s[0].Serving[0].RTT > 0 && len(s[0].Owed) == 3 && s[0].Owed[0].Orders == 0 &&
			s[0].CertificateExpires.Unix() == b.id.pair.Leaf.NotAfter.Unix()
	}, soon, tick)
}

func eventuallyMetric(t *testing.T, n *node, line string) {
	t.Helper()
	require.Eventually(t, func() bool {
		text, err := metricsText(n)
		return err == nil && strings.Contains(text, line+"\n")
	}, soon, tick, line)
}

func TestThreeOperatorsExchangeAndNobodyPassesOn(t *testing.T) {
	a, b, c := start(t, "a"), start(t, "b"), start(t, "c")
	join(t, a, b, c)
	nodes := []*node{a, b, c}
	type pair struct{ from, to string }
	inboxes := map[pair]*inbox{}
	for _, to := range nodes {
		for _, from := range nodes {
			if from != to {
				inboxes[pair{from.name, to.name}] = to.receive(t, from.name, order.PriorityHigh)
			}
		}
	}
	const n = 20
	for i := range n {
		for _, from := range nodes {
			from.store(t, order.PriorityHigh, i+1, []byte(from.name))
		}
	}
	// What a peer sent is stored on OK, too, as of a peer: nobody gets that.
	o := &order.Order{Accept: order.NewAcceptID(time.Now()), Priority: order.PriorityHigh, Origin: "a"}
	_, err := b.js.PublishMsg(t.Context(), &nats.Msg{Subject: subjects.OK("a", order.PriorityHigh, 0), Header: subjects.EncodeOrder(o)})
	require.NoError(t, err)
	for _, from := range nodes {
		from.store(t, order.PriorityHigh, n+1, []byte(from.name))
	}
	for p, box := range inboxes {
		box.await(t, n+1)
		require.Equal(t, upTo(n+1), box.nonces(), "%s to %s", p.from, p.to)
		for _, m := range box.all() {
			require.Equal(t, p.from, string(m.Body))
		}
	}
}

func TestFlowControlGoesOnBeyondTwoMegabytes(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	const n = 1000
	body := make([]byte, 30<<10)
	box := b.receive(t, "a", order.PriorityLow)
	for i := range n {
		a.store(t, order.PriorityLow, i+1, body)
	}
	box.await(t, n)
	require.Equal(t, upTo(n), box.nonces())
}

func TestOrderOfTenMegabytesArrivesAndDelaysNoHighOne(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	bulk, high := b.receive(t, "a", order.PriorityLow), b.receive(t, "a", order.PriorityHigh)
	a.store(t, order.PriorityLow, 1, nil)
	a.store(t, order.PriorityHigh, 1, nil)
	bulk.await(t, 1)
	high.await(t, 1)
	for i := range 4 {
		a.store(t, order.PriorityLow, i+2, make([]byte, 10<<20))
		a.store(t, order.PriorityHigh, i+2, nil)
	}
	high.await(t, 5)
	bulk.await(t, 5)
	require.Len(t, bulk.all()[4].Body, 10<<20)
	// Bulk and high orders cross by connections of their own.
	x, err := a.links.server.Leafs(serving("b", laneBulk))
	require.NoError(t, err)
	require.Len(t, x, 1)
	y, err := a.links.server.Leafs(serving("b", laneHigh))
	require.NoError(t, err)
	require.Len(t, y, 1)
	require.Greater(t, x[0].OutBytes, int64(40<<20))
	require.Less(t, y[0].OutBytes, int64(1<<20))
}

func TestVoidMessagesAreNotHandedOn(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	box := b.receive(t, "a", order.PriorityHigh)
	a.store(t, order.PriorityHigh, 1, nil)
	box.await(t, 1)
	require.NoError(t, upkeep.Burn(t.Context(), a.js, []string{"OK_HIGH"}, 100))
	_, err := a.js.Publish(t.Context(), "orders.ok.local.high.void", nil)
	require.NoError(t, err)
	a.store(t, order.PriorityHigh, 2, nil)
	box.await(t, 2)
	require.Equal(t, upTo(2), box.nonces())
	require.Equal(t, uint64(103), box.all()[1].OriginSequence)
}

func TestReceiveRepeatsWhatWasNotDoneAndKeepsTheOrder(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	for i := range 3 {
		a.store(t, order.PriorityHigh, i+1, nil)
	}
	var calls atomic.Int32
	done := make(chan Message, 10)
	stop := background(t, func(ctx context.Context) error {
		return b.links.Receive(ctx, "a", order.PriorityHigh, func(_ context.Context, m Message) error {
			if calls.Add(1) <= 3 {
				return errors.New("not now")
			}
			done <- m
			return nil
		})
	})
	for i := range 3 {
		m := <-done
		require.Equal(t, uint64(i+1), m.Order.Nonce)
		require.Equal(t, i == 0, m.Redelivered)
	}
	stop()
	// What was done does not come again.
	a.store(t, order.PriorityHigh, 4, nil)
	box := b.receive(t, "a", order.PriorityHigh)
	box.await(t, 1)
	require.Equal(t, []uint64{4}, box.nonces())
	require.ErrorIs(t, b.links.Receive(t.Context(), "nobody", order.PriorityHigh, nil), ErrNoPeer)
}

func TestWhatWasBegunComesAgainAtOnceInItsOrder(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	begun := make(chan struct{}, 1)
	stop := background(t, func(ctx context.Context) error {
		return b.links.Receive(ctx, "a", order.PriorityHigh, func(context.Context, Message) error {
			select {
			case begun <- struct{}{}:
			default:
			}
			return errors.New("not now")
		})
	})
	for i := range 10 { // one in hand, the others read ahead
		a.store(t, order.PriorityHigh, i+1, nil)
	}
	<-begun
	require.Eventually(t, func() bool {
		s, err := b.links.js(order.PriorityHigh).Consumer(t.Context(), stream("a", order.PriorityHigh), receiver)
		return err == nil && s.CachedInfo().NumAckPending == 10
	}, soon, tick)
	stop()
	box := b.receive(t, "a", order.PriorityHigh)
	box.await(t, 10)
	require.Equal(t, upTo(10), box.nonces())
	require.True(t, box.all()[0].Redelivered)
}

func TestPartitionIsNoticedAndNothingIsLostOrRepeated(t *testing.T) {
	quick := func(c *Config, _ *node) { c.Ping = time.Second }
	a, b := start(t, "a", quick), start(t, "b", quick)
	p := newProxy(t, strings.TrimPrefix(a.url(), "tls://"))
	a.set(t, b.peer())
	viaProxy := a.peer()
	viaProxy.URL = p.url()
	b.set(t, viaProxy)
	box := b.receive(t, "a", order.PriorityHigh)
	n := 0
	publish := func(count int) {
		for range count {
			n++
			a.store(t, order.PriorityHigh, n, []byte("x"))
		}
	}
	publish(10)
	box.await(t, 10)
	require.Eventually(t, func() bool {
		cons, err := a.js.PushConsumer(t.Context(), "OK_HIGH", flow{"a", "b", order.PriorityHigh}.durable())
		return err == nil && cons.CachedInfo().AckFloor.Stream == 10
	}, soon, tick, "acknowledged by flow control")
	p.pass(false)
	publish(10)
	eventuallyMetric(t, b, `millrace_peers_connected{direction="fetching",lane="high",peer="a"} 0`)
	eventuallyMetric(t, a, `millrace_peers_connected{direction="serving",lane="high",peer="b"} 0`)
	eventuallyMetric(t, a, `millrace_peers_lag_orders{direction="serving",peer="b",priority="high"} 10`)
	publish(10)
	p.pass(true)
	box.await(t, 30)
	p.cut()
	publish(10)
	box.await(t, 40)
	require.Equal(t, upTo(40), box.nonces())
}

func TestPeerThatComesLateIsFetchedFromAtOnce(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	b.set(t, a.peer()) // which refuses us
	require.Eventually(t, func() bool { return testutil.ToFloat64(a.links.m.refused.WithLabelValues(refusedUnknown)) > 20 }, soon, tick)
	box := b.receive(t, "a", order.PriorityHigh)
	a.store(t, order.PriorityHigh, 1, nil)
	a.set(t, b.peer())
	box.await(t, 1)
}

func TestReceiverGoesOnWhereItWasAfterARestart(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	box := b.receive(t, "a", order.PriorityHigh)
	a.store(t, order.PriorityHigh, 1, nil)
	box.await(t, 1)
	b = b.restart(t)
	for i := range 5 {
		a.store(t, order.PriorityHigh, i+2, nil)
	}
	join(t, a, b)
	box = b.receive(t, "a", order.PriorityHigh)
	box.await(t, 5)
	require.Equal(t, upTo(6)[1:], box.nonces())
}

func TestOriginGoesOnWhereItWasAfterARestart(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	box := b.receive(t, "a", order.PriorityHigh)
	a.store(t, order.PriorityHigh, 1, nil)
	box.await(t, 1)
	a = a.restart(t)
	a.store(t, order.PriorityHigh, 2, nil)
	join(t, a, b)
	a.store(t, order.PriorityHigh, 3, nil)
	box.await(t, 3)
	require.Equal(t, upTo(3), box.nonces())
}

func TestPeersComeAndGoWhileOthersGoOn(t *testing.T) {
	a, b, c := start(t, "a"), start(t, "b"), start(t, "c")
	join(t, a, b)
	c.set(t, a.peer())
	box := b.receive(t, "a", order.PriorityHigh)
	local := a.Connect(t, nats.NoReconnect())
	var stored atomic.Int64
	stop := background(t, func(ctx context.Context) error {
		for ctx.Err() == nil {
			a.store(t, order.PriorityHigh, int(stored.Load())+1, []byte("x"))
			stored.Add(1)
			time.Sleep(time.Millisecond) // a rate, not a wait
		}
		return nil
	})
	box.await(t, 1) // so b is connected
	before, err := a.links.server.Leafs(serving("b", laneHigh))
	require.NoError(t, err)
	for range 3 {
		a.set(t, b.peer(), c.peer())
		eventuallyMetric(t, c, `millrace_peers_connected{direction="fetching",lane="high",peer="a"} 1`)
		got := c.receive(t, "a", order.PriorityHigh)
		got.await(t, 1)
		a.set(t, b.peer())
		leafs, err := a.links.server.Leafs(serving("c", laneHigh))
		require.NoError(t, err)
		require.Empty(t, leafs, "at once")
		_, err = a.js.PushConsumer(t.Context(), "OK_HIGH", flow{"a", "c", order.PriorityHigh}.durable())
		require.Error(t, err)
	}
	stop()
	n := int(stored.Load())
	box.await(t, n)
	require.Equal(t, upTo(n), box.nonces())
	after, err := a.links.server.Leafs(serving("b", laneHigh))
	require.NoError(t, err)
	require.Len(t, before, 1)
	require.Len(t, after, 1)
	require.Equal(t, before[0].ID, after[0].ID, "the same connection")
	require.True(t, local.IsConnected(), "and that of this process")
}

func TestRemovedPeerTakesWhatItSentWithIt(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	box := b.receive(t, "a", order.PriorityHigh)
	a.store(t, order.PriorityHigh, 1, nil)
	box.await(t, 1)
	ended := make(chan error, 1)
	background(t, func(ctx context.Context) error {
		ended <- b.links.Receive(ctx, "a", order.PriorityLow, nil)
		return nil
	})
	b.set(t)
	require.ErrorIs(t, <-ended, ErrNoPeer)
	_, err := b.links.js(order.PriorityHigh).Stream(t.Context(), "PEER_a_HIGH")
	require.Error(t, err)
	text, err := metricsText(b)
	require.NoError(t, err)
	require.NotContains(t, text, `peer="a"`)
	require.Empty(t, b.links.State())
	leafs, err := b.links.server.Leafs("")
	require.NoError(t, err)
	require.Empty(t, leafs)
}

func TestWhatIsPurgedBeforeAPeerFetchesItIsCountedOnce(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	a.set(t, b.peer()) // b does not come
	for i := range 10 {
		a.store(t, order.PriorityHigh, i+1, nil)
	}
	eventuallyMetric(t, a, `millrace_peers_lag_orders{direction="serving",peer="b",priority="high"} 10`)
	require.Eventually(t, func() bool { return a.oldestWaiting("b", order.PriorityHigh) == 1 }, soon, tick)
	s, err := a.js.Stream(t.Context(), "OK_HIGH")
	require.NoError(t, err)
	require.NoError(t, s.Purge(t.Context(), jetstreamPurgeTo(7)))
	eventuallyMetric(t, a, `millrace_peers_missed_total{direction="serving",peer="b",priority="high",reason="purged"} 6`)
	b.set(t, a.peer())
	box := b.receive(t, "a", order.PriorityHigh)
	box.await(t, 4)
	require.Equal(t, []uint64{7, 8, 9, 10}, box.nonces())
	eventuallyMetric(t, a, `millrace_peers_lag_orders{direction="serving",peer="b",priority="high"} 0`)
	eventuallyMetric(t, a, `millrace_peers_missed_total{direction="serving",peer="b",priority="high",reason="purged"} 6`)
	require.Equal(t, 1, strings.Count(a.log.String(), "orders were missed"))
	require.Contains(t, a.log.String(), "first=1 last=6")
}
