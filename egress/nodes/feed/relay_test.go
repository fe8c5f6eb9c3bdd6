package feed

import (
	"strconv"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

const (
	pendingHashes = `["newPendingTransactions"]`
	pendingFull   = `["newPendingTransactions",true]`
)

func newMetricsFor(tb testing.TB) *metrics {
	tb.Helper()
	return newMetrics(prometheus.NewRegistry())
}

func TestPendingTransactionsGoOnAtAnotherNodeWithoutDoubles(t *testing.T) {
	a, b := newNode(t), newNode(t)
	r := open(t, []*fakeNode{a, b})
	hashes, full := r.subscribe(pendingHashes), r.subscribe(pendingFull)
	require.Eventually(t, func() bool { return a.subscriptions(pendingHashes) == 1 && a.subscriptions(pendingFull) == 1 }, patience, time.Millisecond)
	a.say(pendingHashes, `"0x01"`)
	a.say(pendingFull, `{"hash":"0x01","nonce":"0x1"}`)
	hashes.sees(`"0x01"`)
	full.sees(`{"hash":"0x01","nonce":"0x1"}`)
	require.Equal(t, 1, a.dials, "all subscriptions of a node share its WebSocket")
	a.die()
	require.Eventually(t, func() bool { return b.subscriptions(pendingHashes) == 1 && b.subscriptions(pendingFull) == 1 }, patience, time.Millisecond)
	b.say(pendingHashes, `"0x01"`)
	b.say(pendingHashes, `"0x02"`)
	b.say(pendingFull, `{"hash":"0x01"}`)
	b.say(pendingFull, `{"hash":"0x02"}`)
	hashes.sees(`"0x01"`, `"0x02"`)
	full.sees(`{"hash":"0x01","nonce":"0x1"}`, `{"hash":"0x02"}`)
	require.Equal(t, 1, b.dials)
}

func TestSyncingIsPassedOnOnce(t *testing.T) {
	n := newNode(t)
	r := open(t, []*fakeNode{n})
	c := r.subscribe(`["syncing"]`)
	require.Eventually(t, func() bool { return n.subscriptions(`["syncing"]`) == 1 }, patience, time.Millisecond)
	n.say(`["syncing"]`, `false`)
	n.say(`["syncing"]`, `false`)
	n.say(`["syncing"]`, `true`)
	c.sees(`false`, `true`)
}

func TestASubscriptionThatNodesRefuseIsEnded(t *testing.T) {
	n := newNode(t)
	r := open(t, []*fakeNode{n})
	require.Eventually(t, func() bool { return n.subscriptions(heads) == 1 }, patience, time.Millisecond)
	n.set(func(n *fakeNode) { n.refuse = true })
	c := r.subscribe(pendingFull)
	require.Eventually(t, func() bool { return c.ended() != nil }, patience, time.Millisecond)
	require.ErrorIs(t, c.ended(), rpcapi.ErrSubscriptionUnsupported)
}

func TestAnUpstreamThatIsTooFastIsMadeAnew(t *testing.T) {
	l := newLink(nil, newMetricsFor(t))
	u := &upstream{link: l, results: make(chan []byte, 2), made: make(chan struct{})}
	l.asked[1] = u
	e, err := decodeEnvelope([]byte(`{"jsonrpc":"2.0","id":1,"result":"0xa"}`))
	require.NoError(t, err)
	l.answered(&e)
	require.NoError(t, u.refusal())
	for i := range 3 {
		l.notified("0xa", []byte(strconv.Itoa(i)))
	}
	l.notified("0xa", []byte("late"))
	require.Equal(t, "0", string(<-u.results))
	require.Equal(t, "1", string(<-u.results))
	_, ok := <-u.results
	require.False(t, ok)
	require.ErrorIs(t, u.ended(), errOverflow)
	require.InDelta(t, 1, testutil.ToFloat64(l.metrics.overflow), 0)
}

func TestAPinnedNodeIsNotDialledWithoutProof(t *testing.T) {
	n := newNode(t)
	n.node.Pin = rpcapi.Pin{Kind: rpcapi.PinTDX, Value: "x"}
	r := open(t, []*fakeNode{n})
	c := r.subscribe(heads)
	n.learn(blocks(genesis, "a1")...)
	c.sees("a1") // polled through the pool, which has its own proof
	require.Zero(t, n.dials)
}

func TestAMessageOfANodeThatIsTooLargeEndsItsLink(t *testing.T) {
	a, b := newNode(t), newNode(t)
	r := open(t, []*fakeNode{a, b}, func(c *Config) { c.MaxMessage = 4096 })
	c := r.subscribe(pendingHashes)
	require.Eventually(t, func() bool { return a.subscriptions(pendingHashes) == 1 }, patience, time.Millisecond)
	a.say(pendingHashes, `"`+string(make([]byte, 8192))+`"`)
	require.Eventually(t, func() bool { return b.subscriptions(pendingHashes) == 1 }, patience, time.Millisecond)
	b.say(pendingHashes, `"0x02"`)
	c.sees(`"0x02"`)
}

func TestTheMemoryOfTransactionsIsBounded(t *testing.T) {
	s := newSeen(2)
	require.True(t, s.first("a"))
	require.True(t, s.first("b"))
	require.False(t, s.first("a"))
	require.True(t, s.first("c"))
	require.True(t, s.first("a"), "forgotten")
	require.False(t, s.first("c"))
	require.Len(t, s.known, 2)
}

func TestTheBetterSourceIsChosenAndTheChosenOneIsKept(t *testing.T) {
	cfg := DefaultConfig()
	p := newPicker(&cfg, push, poll)
	now := time.Now()
	node := func(name string, ws bool) *rpcapi.Node {
		n, err := rpcapi.ParseNode("http://" + name)
		require.NoError(t, err)
		if ws {
			n.WS = n.URL
		}
		return n
	}
	a, b, c := node("a", true), node("b", true), node("c", false)
	_, _, ok := p.best(nil, now)
	require.False(t, ok)
	nodes := []State{{a, true, 5}, {b, true, 7}, {c, true, 9}}
	src, _, _ := p.best(nodes, now)
	require.Equal(t, source{b, push}, src, "of equals the highest")
	p.worked(source{a, push})
	src, _, _ = p.best(nodes, now)
	require.Equal(t, source{a, push}, src, "the one in use")
	p.failed(src, now)
	src, _, _ = p.best(nodes, now)
	require.Equal(t, source{b, push}, src)
	p.failed(src, now)
	src, _, _ = p.best(nodes, now)
	require.Equal(t, poll, src.mode)
	require.ErrorIs(t, p.leave(source{c, poll}, nodes, now.Add(time.Hour)), errBetter)
	require.NoError(t, p.leave(source{a, push}, nodes, now.Add(time.Hour)))
	nodes[0].Healthy = false
	require.ErrorIs(t, p.leave(source{a, push}, nodes, now.Add(time.Hour)), errUnhealthy)
	require.NoError(t, p.leave(source{a, push}, nodes[:1], now.Add(time.Hour)), "there is nothing better")
	require.ErrorIs(t, p.leave(source{a, push}, nodes[1:], now), errUnhealthy)
	require.Equal(t, "push poll mode(9)", push.String()+" "+poll.String()+" "+mode(9).String())
}

func TestLinksAreSharedAndClosedByTheirLastUser(t *testing.T) {
	n := newNode(t)
	r := open(t, []*fakeNode{n})
	require.Eventually(t, func() bool { return n.subscriptions(heads) == 1 }, patience, time.Millisecond)
	l, release, err := r.links.use(t.Context(), n.node)
	require.NoError(t, err)
	n.set(func(n *fakeNode) {
		for ws := range n.conns {
			_ = ws.Close(websocket.StatusGoingAway, "")
		}
	})
	<-l.done
	release()
	_, err = l.subscribe(t.Context(), heads, 1)
	require.ErrorIs(t, err, errLinkClosed)
	require.Eventually(t, func() bool {
		return n.subscriptions(heads) == 1 && testutil.ToFloat64(r.metrics.sockets) == 1
	}, patience, time.Millisecond)
}
