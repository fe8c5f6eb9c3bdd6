package health

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

// reload changes the configuration in force.
func (r *rig) reload(t *testing.T, change func(*Config)) {
	t.Helper()
	cfg := *r.cfg()
	change(&cfg)
	require.NoError(t, r.Reload(cfg))
	synctest.Wait()
}

func TestAReloadKeepsWhatIsKnownAndChecksAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := newRig(t, 3, func(c *Config) { c.Interval = time.Hour })
		r.Set(nodes)
		r.start(t)
		synctest.Wait()
		r.peer(nodes[0]).set(func(p *peer) { p.number = 95 })
		for range 3 {
			r.Observe(nodes[1].Tag, Refused, 0)
		}
		synctest.Wait()
		ejected := r.status(nodes[1])
		require.Equal(t, Ejected, ejected.State)
		asked, _ := r.peer(nodes[0]).seen()

		r.reload(t, func(c *Config) { c.MaxLag, c.Fall = 2, 1 })
		again, _ := r.peer(nodes[0]).seen()
		require.Equal(t, asked+1, again, "the next check would have been in an hour")
		require.Equal(t, ReasonLagging, r.status(nodes[0]).Reason)
		require.Equal(t, ejected.Since, r.status(nodes[1]).Since, "it is still the same ejection")
		require.Equal(t, ejected.Until, r.status(nodes[1]).Until)
		require.Equal(t, Healthy, r.status(nodes[2]).State)
	})
}

func TestAShorterIntervalHoldsFromTheReloadOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := newRig(t, 1, func(c *Config) { c.Interval = time.Hour })
		r.Set(nodes)
		r.start(t)
		synctest.Wait()
		r.reload(t, func(c *Config) { c.Interval = time.Second })
		before, _ := r.peer(nodes[0]).seen()
		time.Sleep(10 * time.Second)
		after, _ := r.peer(nodes[0]).seen()
		require.InDelta(t, 10, after-before, 2)
	})
}

func TestAnEjectionDoesNotOutlastItsNewBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := newRig(t, 2, func(c *Config) { c.EjectMin, c.EjectMax = time.Hour, time.Hour })
		r.Set(nodes)
		r.start(t)
		synctest.Wait()
		for range 3 {
			r.Observe(nodes[0].Tag, Refused, 0)
		}
		synctest.Wait()
		r.reload(t, func(c *Config) { c.EjectMin, c.EjectMax = time.Second, time.Minute })
		require.Equal(t, time.Now().Add(time.Minute), r.status(nodes[0]).Until)
		time.Sleep(70 * time.Second)
		synctest.Wait()
		require.Equal(t, Returning, r.status(nodes[0]).State)
	})
}

func TestWithoutChecksNothingStaysThatOnlyChecksTakeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := newRig(t, 2, func(c *Config) { c.Fall = 1 })
		r.peer(nodes[0]).set(func(p *peer) { p.syncing = true })
		r.Set(nodes)
		r.start(t)
		synctest.Wait()
		require.Equal(t, Unhealthy, r.status(nodes[0]).State)
		require.Equal(t, uint64(100), r.Head().Number)

		r.reload(t, func(c *Config) { c.Check = ModeNone })
		asked, _ := r.peer(nodes[0]).seen()
		require.Equal(t, Verdict{Healthy: true, Share: 1}, r.verdict(nodes[0]))
		require.Equal(t, Verdict{Healthy: true, Share: 1}, r.verdict(nodes[1]), "an old height would keep calls away")
		require.Equal(t, rpcapi.Head{}, r.Head(), "nobody says when this one is over")
		time.Sleep(time.Minute)
		after, _ := r.peer(nodes[0]).seen()
		require.Equal(t, asked, after)

		r.reload(t, func(c *Config) { c.Check = ModeFull })
		require.Equal(t, Unhealthy, r.status(nodes[0]).State)
		require.Equal(t, uint64(100), r.Head().Number)
		require.Equal(t, Healthy, r.status(nodes[1]).State)
	})
}

func TestAReloadToAnotherChainTellsTheNodesOfTheOldOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := newRig(t, 3, nil)
		r.peer(nodes[1]).set(func(p *peer) { p.chain = 5 })
		r.Set(nodes)
		r.start(t)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, ReasonWrongChain, r.status(nodes[1]).Reason)
		r.reload(t, func(c *Config) { c.ChainID = 5 })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, ReasonWrongChain, r.status(nodes[0]).Reason)
		require.True(t, r.status(nodes[1]).State.Usable())
	})
}

func TestACheckOfAnotherKindThatWasUnderWayTellsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := newRig(t, 1, nil)
		r.Set(nodes)
		n := (*r.byTag.Load())[nodes[0].Tag]
		r.reload(t, func(c *Config) { c.Check = ModeNetVersion })
		r.conclude(n, &report{knows: tellsHead, head: block{number: 9}}, ModeFull, time.Now())
		require.Zero(t, r.Head().Number)
		require.Equal(t, Verdict{}, r.verdict(nodes[0]))
	})
}

func TestAFaultyReloadChangesNothing(t *testing.T) {
	r, _ := newRig(t, 1, nil)
	before := r.cfg()
	require.Error(t, r.Reload(Config{}))
	require.Same(t, before, r.cfg())
}
