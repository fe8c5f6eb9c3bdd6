package health

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

// checks lets a number of checks of every node pass, all of them.
func checks(n int) {
	time.Sleep(time.Duration(n) * 3400 * time.Millisecond)
	synctest.Wait()
}

func TestAHealthyNodeIsInUseAfterItsFirstCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := newRig(t, 1, nil)
		r.Set(nodes)
		require.Equal(t, Verdict{}, r.verdict(nodes[0]))
		require.Equal(t, 1, r.tellings(), "a new node is judged at once")
		r.start(t)
		synctest.Wait()
		require.Equal(t, Verdict{Healthy: true, Share: 1, Height: 100}, r.verdict(nodes[0]))
		s := r.status(nodes[0])
		require.Equal(t, Healthy, s.State)
		require.Empty(t, s.Reason)
		require.Equal(t, uint64(1), s.ChainID)
	})
}

func TestAVerdictIsToldOnlyWhenItChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := newRig(t, 2, nil)
		r.Set(nodes)
		r.start(t)
		synctest.Wait()
		told := r.tellings()
		checks(10)
		require.Equal(t, told, r.tellings())
		r.peer(nodes[0]).set(func(p *peer) { p.number++ })
		checks(1)
		require.Equal(t, told+1, r.tellings())
		require.Equal(t, uint64(101), r.verdict(nodes[0]).Height)
	})
}

func TestANodeFallsAfterThreeBadChecksAndRisesAfterTwoGoodOnes(t *testing.T) {
	for name, k := range map[string]struct {
		bad    func(*peer)
		reason Reason
	}{
		"down":    {func(p *peer) { p.down = true }, ReasonUnreachable},
		"hangs":   {func(p *peer) { p.hangs = true }, ReasonTimeout},
		"503":     {func(p *peer) { p.status = 503 }, ReasonStatus},
		"429":     {func(p *peer) { p.status = 429 }, ReasonStatus},
		"error":   {func(p *peer) { p.code = -32000 }, ReasonRPCError},
		"-32601":  {func(p *peer) { p.code = -32601 }, ReasonNoMethods}, // it knew them once
		"page":    {func(p *peer) { p.raw = "<html>" }, ReasonNoMethods},
		"syncing": {func(p *peer) { p.syncing = true }, ReasonSyncing},
		"lagging": {func(p *peer) { p.number = 83 }, ReasonLagging},
		"stale":   {func(p *peer) { p.at = time.Now().Add(-2 * time.Minute) }, ReasonStaleHead},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, nodes := newRig(t, 3, func(c *Config) { c.MaxHeadAge = time.Minute })
				r.Set(nodes)
				r.start(t)
				checks(1)
				p := r.peer(nodes[0])
				p.set(k.bad)
				checks(2)
				require.True(t, r.verdict(nodes[0]).Healthy, "two may fail")
				checks(2)
				require.False(t, r.verdict(nodes[0]).Healthy)
				s := r.status(nodes[0])
				require.Equal(t, Unhealthy, s.State)
				require.Equal(t, k.reason, s.Reason)
				require.NotEmpty(t, s.LastError)
				require.True(t, r.verdict(nodes[1]).Healthy)

				p.mend()
				r.awaitCheck(nodes[0])
				require.False(t, r.verdict(nodes[0]).Healthy, "one good check is too few")
				checks(2)
				v := r.verdict(nodes[0])
				require.True(t, v.Healthy)
				require.Less(t, v.Share, 1.0, "it returns gradually")
				require.GreaterOrEqual(t, v.Share, 0.1)
				require.Equal(t, k.reason, r.status(nodes[0]).Reason)
				time.Sleep(31 * time.Second)
				synctest.Wait()
				require.Equal(t, 1.0, r.verdict(nodes[0]).Share) //nolint:testifylint // exactly
			})
		})
	}
}

// awaitCheck lets time pass until the next good check of a node has ended.
func (r *rig) awaitCheck(n *rpcapi.Node) {
	own := (*r.byTag.Load())[n.Tag]
	good := func() int {
		r.Monitor.mu.Lock()
		defer r.Monitor.mu.Unlock()
		return own.good
	}
	for before := good(); good() == before; {
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
	}
}

func TestACheckOfANodeThatWasRemovedJudgesNobody(t *testing.T) {
	r, nodes := newRig(t, 1, nil)
	r.Set(nodes)
	n := (*r.byTag.Load())[nodes[0].Tag]
	r.Set(nil)
	r.conclude(n, &report{knows: tellsHead, chain: 7, head: block{number: 100}}, r.cfg().Check, time.Now())
	require.False(t, n.checked)
	require.Zero(t, r.Head())
}

func TestANodeThatIsDeadAtTheStartIsUnhealthyUntilItLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := newRig(t, 2, nil)
		r.peer(nodes[0]).set(func(p *peer) { p.down = true })
		r.Set(nodes)
		r.start(t)
		synctest.Wait()
		require.False(t, r.verdict(nodes[0]).Healthy)
		require.Equal(t, ReasonUnreachable, r.status(nodes[0]).Reason, "one check is enough for a new one")
		r.peer(nodes[0]).set(func(p *peer) { p.down = false })
		checks(3)
		require.True(t, r.verdict(nodes[0]).Healthy)
	})
}

func TestAnotherChainIsNotForgivenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := newRig(t, 2, func(c *Config) { c.ChainID = 1 })
		r.Set(nodes)
		r.start(t)
		checks(1)
		r.peer(nodes[0]).set(func(p *peer) { p.chain, p.number = 5, 999 })
		checks(1)
		require.Equal(t, ReasonWrongChain, r.status(nodes[0]).Reason)
		require.Equal(t, uint64(100), r.Head().Number, "its head is of no interest")
	})
}

func TestWithoutAChainIDTheMajorityIsRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := newRig(t, 3, nil)
		r.peer(nodes[0]).set(func(p *peer) { p.chain = 5 })
		r.Set(nodes)
		r.start(t)
		checks(2)
		require.Equal(t, ReasonWrongChain, r.status(nodes[0]).Reason)
		require.True(t, r.verdict(nodes[1]).Healthy)
		require.True(t, r.verdict(nodes[2]).Healthy)
	})
	synctest.Test(t, func(t *testing.T) {
		r, nodes := newRig(t, 2, nil)
		r.peer(nodes[1]).set(func(p *peer) { p.chain = 5 })
		r.Set(nodes[:1])
		r.start(t)
		checks(1)
		r.Set(nodes)
		checks(1)
		require.Equal(t, ReasonWrongChain, r.status(nodes[1]).Reason, "of two the first one is right")
	})
}

func TestANetworkThatStandsStillIsHealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := newRig(t, 3, nil)
		for _, n := range nodes {
			r.peer(n).set(func(p *peer) { p.at = time.Now().Add(-24 * time.Hour) })
		}
		r.Set(nodes)
		r.start(t)
		checks(100)
		for _, n := range nodes {
			require.True(t, r.verdict(n).Healthy)
			require.Greater(t, r.status(n).HeadAge, 24*time.Hour)
		}
	})
}

func TestASetKeepsTheHistoryOfNodesThatStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := newRig(t, 3, nil)
		r.Set(nodes[:2])
		r.start(t)
		checks(1)
		r.Observe(nodes[0].Tag, Answered, time.Millisecond)
		since := r.status(nodes[0]).Since
		again := parse(t, nodes[0].URI+"?_workers=3")
		r.Set(append(nodes[1:], again, nodes[0]))
		synctest.Wait()
		require.Len(t, r.Status(), 3)
		s := r.status(nodes[0])
		require.Equal(t, since, s.Since)
		require.Equal(t, uint64(1), s.Samples)
		require.Equal(t, 3, s.Node.Workers, "what is configured is new")
		require.True(t, r.verdict(nodes[2]).Healthy, "a new node is checked at once")

		told := r.tellings()
		r.Set(nodes[:1])
		synctest.Wait()
		asked, _ := r.peer(nodes[1]).seen()
		checks(5)
		later, _ := r.peer(nodes[1]).seen()
		require.Equal(t, asked, later, "a removed node is left alone")
		r.Observe(nodes[1].Tag, Refused, 0)
		r.Learned(nodes[1].Tag, 500, [32]byte{})
		require.Equal(t, told, r.tellings())
		require.Equal(t, uint64(100), r.Head().Number)
	})
}
