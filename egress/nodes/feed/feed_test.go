package feed

import (
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

const heads = `["newHeads"]`

func names(prefix string, from, to int) (all []string) {
	for i := from; i <= to; i++ {
		all = append(all, prefix+strconv.Itoa(i))
	}
	return all
}

func TestAllClientsShareOneUpstreamSubscription(t *testing.T) {
	n := newNode(t)
	r := open(t, []*fakeNode{n})
	a, b := r.subscribe(heads), r.subscribe(heads)
	n.add(blocks(genesis, "a1", "a2")...)
	a.sees("a1", "a2")
	b.sees("a1", "a2")
	b.sub.Close()
	n.add(blocks(blocks(genesis, "a1", "a2")[1], "a3")...)
	a.sees("a1", "a2", "a3")
	b.sees("a1", "a2")
	require.Equal(t, 1, n.subs)
	require.Equal(t, 1, n.dials)
	require.EqualValues(t, 3, r.Feed.head().number)
	require.NotEmpty(t, r.pool.learned)
}

func TestHeadersAreTheSameWhetherAnnouncedOrFetched(t *testing.T) {
	chain := blocks(genesis, "a1")
	announced, err := decodeHeader([]byte(chain[0].header()))
	require.NoError(t, err)
	fetched, err := decodeHeader([]byte(chain[0].full()))
	require.NoError(t, err)
	require.Equal(t, string(announced.raw), string(fetched.raw))
	require.Equal(t, chain[0].header(), string(fetched.raw))
}

func TestHeadsThatWereNotAnnouncedAreFilledIn(t *testing.T) {
	n := newNode(t)
	r := open(t, []*fakeNode{n})
	c := r.subscribe(heads)
	n.jump(blocks(genesis, names("a", 1, 20)...)...)
	c.sees(names("a", 1, 20)...)
	require.InDelta(t, 19, testutil.ToFloat64(r.metrics.filled), 0)
}

func TestAReorganisationComesFromTheCommonAncestorOn(t *testing.T) {
	n := newNode(t)
	r := open(t, []*fakeNode{n})
	c := r.subscribe(heads)
	chain := blocks(genesis, "a1", "a2", "a3")
	n.add(chain...)
	c.sees("a1", "a2", "a3")
	n.jump(blocks(chain[0], "b2", "b3", "b4")...)
	c.sees("a1", "a2", "a3", "b2", "b3", "b4")
	n.jump(blocks(chain[0], "c2")...) // the fake's head too; to a shorter one: this node was level with us
	c.sees("a1", "a2", "a3", "b2", "b3", "b4", "c2")
	n.add(chain[0]) // a known block again
	n.add(blocks(blocks(chain[0], "c2")[0], "c3")...)
	c.sees("a1", "a2", "a3", "b2", "b3", "b4", "c2", "c3")
	require.InDelta(t, 2, testutil.ToFloat64(r.metrics.reorgs), 0)
}

func TestWhenANodeDiesAnotherGoesOnWithoutAGap(t *testing.T) {
	a, b := newNode(t), newNode(t)
	r := open(t, []*fakeNode{a, b})
	c, l := r.subscribe(heads), r.subscribe(`["logs",{}]`)
	chain := blocks(genesis, "a1*1", "a2", "a3*2", "a4", "a5*1", "a6")
	a.add(chain[:2]...)
	b.learn(chain[:2]...)
	c.sees("a1", "a2")
	b.learn(chain[2:5]...)
	a.die() // before it said anything of a3 to a5
	c.sees("a1", "a2", "a3", "a4", "a5")
	require.Eventually(t, func() bool { return b.subscriptions(heads) == 1 }, patience, time.Millisecond)
	b.add(chain[5])
	c.sees("a1", "a2", "a3", "a4", "a5", "a6")
	l.sees("a1.0", "a3.0", "a3.1", "a5.0")
	require.NoError(t, c.ended())
}

func TestANodeThatIsNotHealthyAnyMoreIsLeft(t *testing.T) {
	a, b := newNode(t), newNode(t)
	r := open(t, []*fakeNode{a, b})
	require.Eventually(t, func() bool { return a.subscriptions(heads) == 1 }, patience, time.Millisecond)
	a.set(func(n *fakeNode) { n.healthy = false })
	require.Eventually(t, func() bool { return b.subscriptions(heads) == 1 && a.subscriptions(heads) == 0 }, patience, time.Millisecond)
	b.set(func(n *fakeNode) { n.gone = true })
	require.Eventually(t, func() bool { return a.subscriptions(heads) == 1 }, patience, time.Millisecond)
	require.GreaterOrEqual(t, testutil.ToFloat64(r.metrics.left[leftUnhealthy]), 2.0)
}

func TestASilentNodeIsLeftOnceAnotherMovesOn(t *testing.T) {
	a, b := newNode(t), newNode(t)
	r := open(t, []*fakeNode{a, b})
	c := r.subscribe(heads)
	a.set(func(n *fakeNode) { n.silent = true })
	b.add(blocks(genesis, "a1", "a2")...)
	c.sees("a1", "a2")
	require.InDelta(t, 1, testutil.ToFloat64(r.metrics.left[leftSilent]), 0)
}

func TestANewSourceThatIsBehindIsNotBelievedAboutItsOldBranch(t *testing.T) {
	a, b := newNode(t), newNode(t)
	r := open(t, []*fakeNode{a, b})
	c := r.subscribe(heads)
	chain := blocks(genesis, "a1", "a2", "a3", "a4")
	a.add(chain[:3]...)
	c.sees("a1", "a2", "a3")
	stale := blocks(chain[0], "x2")
	b.learn(chain[0], stale[0])
	a.die()
	require.Eventually(t, func() bool { return b.subscriptions(heads) == 1 }, patience, time.Millisecond)
	b.announce(stale[0])
	b.learn(chain...)
	b.announce(chain[3])
	c.sees("a1", "a2", "a3", "a4")
	require.Zero(t, testutil.ToFloat64(r.metrics.reorgs))
}

func TestWithoutAWebSocketHeadsArePolled(t *testing.T) {
	a, b := newNode(t), newNode(t)
	a.node.WS, b.node.WS = nil, nil
	r := open(t, []*fakeNode{a, b})
	c, l := r.subscribe(heads), r.subscribe(`["logs"]`)
	chain := blocks(genesis, "a1", "a2*1", "a3", "a4", "a5")
	a.learn(chain[:3]...)
	b.learn(chain[:3]...)
	c.sees("a1", "a2", "a3")
	l.sees("a2.0")
	b.learn(chain[3:]...)
	a.die()
	c.sees("a1", "a2", "a3", "a4", "a5")
	_, err := r.Subscribe(t.Context(), []byte(`["newPendingTransactions"]`), c.deliver)
	require.ErrorIs(t, err, rpcapi.ErrSubscriptionUnsupported)
}

func TestANodeWhoseWebSocketDoesNotWorkIsPolledMeanwhile(t *testing.T) {
	n := newNode(t)
	n.set(func(n *fakeNode) { n.refuse = true })
	r := open(t, []*fakeNode{n})
	c := r.subscribe(heads)
	n.learn(blocks(genesis, "a1")...)
	c.sees("a1")
	n.set(func(n *fakeNode) { n.refuse = false })
	require.Eventually(t, func() bool { return n.subscriptions(heads) == 1 }, patience, time.Millisecond)
	n.add(blocks(blocks(genesis, "a1")[0], "a2")...)
	c.sees("a1", "a2")
}

func TestAGapThatCanNotBeFilledEndsSubscriptions(t *testing.T) {
	n := newNode(t)
	r := open(t, []*fakeNode{n}, func(c *Config) { c.MaxGap = 4 })
	c, l, p := r.subscribe(heads), r.subscribe(`["logs"]`), r.subscribe(`["newPendingTransactions"]`)
	n.jump(blocks(genesis, names("a", 1, 20)...)...)
	require.Eventually(t, func() bool { return c.ended() != nil && l.ended() != nil }, patience, time.Millisecond)
	require.ErrorIs(t, c.ended(), rpcapi.ErrSubscriptionGap)
	require.NoError(t, p.ended())
	again := r.subscribe(heads)
	n.add(blocks(n.head, "b1")...)
	again.sees("b1")
	c.sees([]string(nil)...)
}

func TestAReorganisationDeeperThanWhatIsKeptEndsSubscriptions(t *testing.T) {
	n := newNode(t)
	r := open(t, []*fakeNode{n})
	c := r.subscribe(heads)
	chain := blocks(genesis, names("a", 1, keepHeaders+10)...)
	n.jump(chain...)
	c.sees(names("a", 1, keepHeaders+10)...)
	n.jump(blocks(chain[2], names("b", 4, keepHeaders+11)...)...)
	require.Eventually(t, func() bool { return c.ended() != nil }, patience, time.Millisecond)
}

func TestASlowClientIsLeftOutAndOthersAreNot(t *testing.T) {
	n := newNode(t)
	r := open(t, []*fakeNode{n})
	slow, quick := r.subscribe(heads), r.subscribe(heads)
	slow.full = true
	n.add(blocks(genesis, "a1", "a2")...)
	quick.sees("a1", "a2")
	require.Empty(t, slow.all())
	slow.sub.Close()
	require.InDelta(t, 1, testutil.ToFloat64(r.metrics.kinds[kindHeads].clients), 0)
	require.InDelta(t, 1, testutil.ToFloat64(r.metrics.kinds[kindHeads].slow), 0)
}

func TestStoppingEndsAllSubscriptions(t *testing.T) {
	n := newNode(t)
	r := open(t, []*fakeNode{n})
	c, l := r.subscribe(heads), r.subscribe(`["logs"]`)
	require.NoError(t, r.stop())
	require.ErrorIs(t, c.ended(), rpcapi.ErrStopping)
	require.ErrorIs(t, l.ended(), rpcapi.ErrStopping)
	_, err := r.Subscribe(t.Context(), []byte(heads), c.deliver)
	require.ErrorIs(t, err, rpcapi.ErrStopping)
	require.Zero(t, testutil.ToFloat64(r.metrics.sockets))
	require.Zero(t, testutil.ToFloat64(r.metrics.upstream))
}

func TestDistinctSubscriptionsAreBounded(t *testing.T) {
	n := newNode(t)
	r := open(t, []*fakeNode{n}, func(c *Config) { c.MaxGroups = 1 })
	r.subscribe(`["logs"]`)
	r.subscribe(`["logs",{}]`)
	_, err := r.Subscribe(t.Context(), []byte(`["syncing"]`), nil)
	require.ErrorIs(t, err, rpcapi.ErrSubscriptionLimit)
	cfg := *r.cfg()
	cfg.MaxGroups = 2
	require.NoError(t, r.Reload(cfg))
	r.subscribe(`["syncing"]`)
	cfg.MaxGroups = 0
	require.Error(t, r.Reload(cfg))
	cfg.MaxGroups = 1
	require.NoError(t, r.Reload(cfg), "what there is stays")
	r.subscribe(`["syncing"]`)
}

func TestAReloadChangesHowOftenTheHeadIsAskedFor(t *testing.T) {
	n := newNode(t, blocks(genesis, "a1")...)
	n.node.WS = nil
	r := open(t, []*fakeNode{n}, func(c *Config) { c.Poll = time.Second })
	c := r.subscribe(heads)
	cfg := *r.cfg()
	cfg.Poll = 5 * time.Millisecond
	require.NoError(t, r.Reload(cfg))
	asked := func() int {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.asked)
	}
	before := asked()
	require.Eventually(t, func() bool { return asked() > before+100 }, patience, time.Millisecond) // at one a second there would be 15
	c.sub.Close()
}

func TestClientsSeeOneChainWhateverHappensToNodes(t *testing.T) {
	const nodes, length = 3, 120
	chain := blocks(genesis, names("a", 1, length)...)
	var all []*fakeNode
	for range nodes {
		all = append(all, newNode(t))
	}
	r := open(t, all)
	c := r.subscribe(heads)
	for i, b := range chain {
		for k, n := range all {
			switch (i + 40*k) % length {
			case 10:
				n.set(func(n *fakeNode) { n.silent = true })
			case 30:
				n.set(func(n *fakeNode) {
					n.silent = false
					for ws := range n.conns {
						_ = ws.CloseNow()
					}
				})
			case 40, 50:
				n.set(func(n *fakeNode) { n.healthy = !n.healthy })
			}
			n.add(b)
		}
	}
	last := blocks(chain[length-1], "end")
	for _, n := range all {
		n.add(last...)
	}
	c.sees(append(names("a", 1, length), "end")...)
	require.NoError(t, c.ended())
	require.Zero(t, testutil.ToFloat64(r.metrics.resets))
}
