package health

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"millrace/internal/rpcapi"
)

func at(number uint64, fork string) claim { return claim{number: number, hash: hashOf(number, fork)} }

func TestTheHeadIsWhatTheMajorityTells(t *testing.T) {
	before := rpcapi.Head{Number: 100, Hash: hashOf(100, "b")}
	for name, k := range map[string]struct {
		claims []claim
		want   claim
	}{
		"one":                          {[]claim{at(100, "")}, at(100, "")},
		"of two the higher":            {[]claim{at(100, ""), at(300, "")}, at(300, "")},
		"of three the confirmed":       {[]claim{at(100, ""), at(1000, ""), at(101, "")}, at(101, "")},
		"of three the highest":         {[]claim{at(100, ""), at(110, ""), at(1, "")}, at(110, "")},
		"nobody near anybody":          {[]claim{at(100, ""), at(200, ""), at(300, "")}, at(200, "")},
		"the hash that most have":      {[]claim{at(100, "b"), at(100, "a"), at(100, "a")}, at(100, "a")},
		"a split stays with what was":  {[]claim{at(100, "a"), at(100, "b")}, at(100, "b")},
		"a new split with the first":   {[]claim{at(101, "a"), at(101, "b")}, at(101, "a")},
		"lower heads have no hash":     {[]claim{at(99, "a"), at(99, "a"), at(100, "c")}, at(100, "c")},
		"the claims' own order stands": {[]claim{at(7, "x"), at(7, "y")}, at(7, "x")},
	} {
		t.Run(name, func(t *testing.T) {
			h, ok := agreed(k.claims, 16, before)
			require.True(t, ok)
			require.Equal(t, k.want.number, h.Number)
			require.Equal(t, k.want.hash, h.Hash)
		})
	}
	_, ok := agreed(nil, 16, before)
	require.False(t, ok)
}

func TestFinalizedIsTheLowestThatIsTold(t *testing.T) {
	h, _ := agreed([]claim{{number: 9, finalized: 5}, {number: 9}, {number: 9, finalized: 4}}, 16, rpcapi.Head{})
	require.Equal(t, uint64(4), h.Finalized)
}

func TestTheHeadIsAlwaysSomebodys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		claims := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) claim {
			return at(rapid.Uint64Range(0, 60).Draw(t, "number"), rapid.SampledFrom([]string{"a", "b"}).Draw(t, "fork"))
		}), 1, 7).Draw(t, "claims")
		h, ok := agreed(claims, 16, rpcapi.Head{})
		require.True(t, ok)
		found, near := false, 0
		for _, c := range claims {
			found = found || (c.number == h.Number && c.hash == h.Hash)
			if c.number >= h.Number || h.Number-c.number <= 16 {
				near++
			}
		}
		require.True(t, found)
		if len(claims) > 2 {
			require.GreaterOrEqual(t, near, 2)
		}
	})
}

func TestSubscribedHeadsWakeWhoFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := newRig(t, 2, nil)
		r.Set(nodes)
		first := r.Changed()
		require.Zero(t, r.Head())
		r.start(t)
		synctest.Wait()
		<-first
		changed := r.Changed()
		r.Learned(nodes[1].Tag, 101, hashOf(101, ""))
		<-changed
		require.Equal(t, rpcapi.Head{Number: 101, Hash: hashOf(101, "")}, r.Head())
		require.Equal(t, uint64(101), r.verdict(nodes[1]).Height)
		require.Equal(t, uint64(100), r.verdict(nodes[0]).Height)

		changed = r.Changed()
		r.Learned(nodes[1].Tag, 101, hashOf(101, ""))
		select {
		case <-changed:
			require.Fail(t, "nothing is new")
		default:
		}
	})
}

func TestAReorgTakesTheHeadBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := started(t, 3, nil)
		for _, n := range nodes {
			r.peer(n).set(func(p *peer) { p.number, p.finalized = 105, 64 })
		}
		checks(1)
		require.Equal(t, rpcapi.Head{Number: 105, Hash: hashOf(105, ""), Finalized: 64}, r.Head())
		for _, n := range nodes {
			r.peer(n).set(func(p *peer) { p.number, p.fork = 104, "b" })
		}
		checks(1)
		require.Equal(t, rpcapi.Head{Number: 104, Hash: hashOf(104, "b"), Finalized: 64}, r.Head())
	})
}

func TestACheckThatBeganBeforeASubscribedHeadDoesNotTakeItBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := newRig(t, 1, nil)
		r.Set(nodes)
		n := (*r.byTag.Load())[nodes[0].Tag]
		began := time.Now()
		time.Sleep(time.Second)
		r.Learned(nodes[0].Tag, 101, hashOf(101, ""))
		r.conclude(n, &report{knows: tellsHead, chain: 1, head: block{number: 100}}, r.cfg().Check, began)
		require.Equal(t, uint64(101), r.Head().Number)
		r.conclude(n, &report{knows: tellsHead, chain: 1, head: block{number: 100}}, r.cfg().Check, time.Now())
		require.Equal(t, uint64(100), r.Head().Number)
	})
}

func TestWhenNobodyIsInUseAnotherChainIsStillNoHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := newRig(t, 2, func(c *Config) { c.ChainID = 1 })
		r.peer(nodes[0]).set(func(p *peer) { p.chain, p.number = 5, 999 })
		r.Set(nodes)
		r.start(t)
		synctest.Wait()
		r.calls(nodes[1], 3, Refused, 0)
		synctest.Wait()
		r.Learned(nodes[0].Tag, 1000, hashOf(1000, ""))
		r.Learned(nodes[1].Tag, 101, hashOf(101, ""))
		require.False(t, r.verdict(nodes[0]).Healthy || r.verdict(nodes[1]).Healthy)
		require.Equal(t, uint64(101), r.Head().Number)
	})
}

func TestAnUnhealthyNodeTellsNoHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := started(t, 2, nil)
		r.peer(nodes[0]).set(func(p *peer) { p.number = 120 })
		checks(1)
		require.Equal(t, uint64(120), r.Head().Number)
		r.calls(nodes[0], 3, Refused, 0)
		synctest.Wait()
		require.Equal(t, uint64(100), r.Head().Number)
	})
}
