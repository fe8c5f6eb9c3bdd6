package health

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

// calls observes n calls of one outcome.
func (r *rig) calls(n *rpcapi.Node, k int, o Outcome, d time.Duration) {
	for range k {
		r.Observe(n.Tag, o, d)
	}
}

// started is a running rig whose nodes are in full use.
func started(t *testing.T, n int, change func(*Config)) (*rig, []*rpcapi.Node) {
	t.Helper()
	r, nodes := newRig(t, n, change)
	r.Set(nodes)
	r.start(t)
	synctest.Wait()
	for _, n := range nodes {
		require.Equal(t, Healthy, r.status(n).State)
	}
	return r, nodes
}

func TestThreeRefusedConnectionsInARowEjectAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := started(t, 2, nil)
		r.calls(nodes[0], 2, Refused, 0)
		r.calls(nodes[0], 1, Answered, time.Millisecond)
		r.calls(nodes[0], 2, Refused, 0)
		r.calls(nodes[0], 1, Canceled, time.Millisecond)
		synctest.Wait()
		require.True(t, r.verdict(nodes[0]).Healthy, "an answer in between")
		r.calls(nodes[0], 1, Refused, 0)
		synctest.Wait()
		require.False(t, r.verdict(nodes[0]).Healthy, "without a tick: no time has passed")
		s := r.status(nodes[0])
		require.Equal(t, Ejected, s.State)
		require.Equal(t, ReasonRefused, s.Reason)
		require.GreaterOrEqual(t, s.Until.Sub(s.Since), 2500*time.Millisecond)
		require.LessOrEqual(t, s.Until.Sub(s.Since), 5*time.Second)
		require.True(t, r.verdict(nodes[1]).Healthy)
	})
}

func TestRatesEject(t *testing.T) {
	for name, k := range map[string]struct {
		calls  func(*rig, *rpcapi.Node)
		reason Reason // empty: it stays
	}{
		"8 of 10 fail": {func(r *rig, n *rpcapi.Node) {
			r.calls(n, 4, Failed, time.Millisecond)
			r.calls(n, 4, TimedOut, time.Second)
			r.calls(n, 2, Answered, time.Millisecond)
		}, ReasonErrorRate},
		"7 of 10 fail": {func(r *rig, n *rpcapi.Node) {
			r.calls(n, 7, Failed, time.Millisecond)
			r.calls(n, 3, Answered, time.Millisecond)
		}, ""},
		"9 of 9 fail": {func(r *rig, n *rpcapi.Node) { r.calls(n, 9, Failed, time.Millisecond) }, ""},
		"5 of 10 are throttled": {func(r *rig, n *rpcapi.Node) {
			r.calls(n, 5, Throttled, 0)
			r.calls(n, 5, Answered, time.Millisecond)
		}, ReasonThrottled},
		"all are canceled": {func(r *rig, n *rpcapi.Node) { r.calls(n, 100, Canceled, time.Minute) }, ""},
		"slow": {func(r *rig, n *rpcapi.Node) {
			r.calls(n, 20, Answered, 4*time.Second)
		}, ReasonSlow},
		"slow, but not most calls": {func(r *rig, n *rpcapi.Node) {
			r.calls(n, 8, Answered, time.Millisecond)
			r.calls(n, 2, Answered, 4*time.Second)
		}, ""},
		"not slow by itself": {func(r *rig, n *rpcapi.Node) { r.calls(n, 20, Answered, 2*time.Second) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, nodes := started(t, 3, nil)
				r.calls(nodes[1], 20, Answered, 100*time.Millisecond)
				r.calls(nodes[2], 20, Answered, 200*time.Millisecond)
				k.calls(r, nodes[0])
				time.Sleep(1100 * time.Millisecond)
				synctest.Wait()
				require.Equal(t, k.reason, r.status(nodes[0]).Reason)
				require.Equal(t, k.reason == "", r.verdict(nodes[0]).Healthy)
			})
		})
	}
}

func TestWhereAllAreSlowNobodyIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := started(t, 3, nil)
		r.calls(nodes[0], 20, Answered, 8*time.Second)
		r.calls(nodes[1], 20, Answered, 3*time.Second)
		r.calls(nodes[2], 20, Answered, 3*time.Second)
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		for _, n := range nodes {
			require.True(t, r.verdict(n).Healthy)
		}
	})
}

func TestTheWindowForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := started(t, 3, nil)
		r.calls(nodes[0], 9, Failed, time.Millisecond)
		time.Sleep(35 * time.Second)
		r.calls(nodes[0], 9, Failed, time.Millisecond)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.True(t, r.verdict(nodes[0]).Healthy)
		require.Equal(t, uint64(9), r.status(nodes[0]).Samples)
	})
}

func TestAnEjectedNodeReturnsAfterAProbeWithAShareThatGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := started(t, 2, nil)
		p := r.peer(nodes[0])
		p.set(func(p *peer) { p.down = true })
		r.calls(nodes[0], 3, Refused, 0)
		checks(2)
		p.set(func(p *peer) { p.down = false })
		require.Equal(t, Ejected, r.status(nodes[0]).State, "its time is over, but a probe has to succeed")
		checks(1)
		v := r.verdict(nodes[0])
		require.Equal(t, Returning, r.status(nodes[0]).State)
		require.InDelta(t, 0.15, v.Share, 0.06)
		before := v.Share
		for range 9 {
			time.Sleep(3 * time.Second)
			synctest.Wait()
			r.calls(nodes[0], 1, Answered, time.Millisecond)
			now := r.verdict(nodes[0]).Share
			require.Greater(t, now, before)
			before = now
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		require.Equal(t, Healthy, r.status(nodes[0]).State)
	})
}

func TestAFailureWhileItReturnsEjectsAgainAndForLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := started(t, 2, nil)
		r.calls(nodes[0], 3, Refused, 0)
		for n := range 8 {
			synctest.Wait()
			s := r.status(nodes[0])
			require.Equal(t, Ejected, s.State)
			span, most := s.Until.Sub(s.Since), min(5*time.Second<<n, 5*time.Minute)
			require.GreaterOrEqual(t, span, most/2)
			require.LessOrEqual(t, span, most)
			time.Sleep(time.Until(s.Until))
			checks(1)
			require.Equal(t, Returning, r.status(nodes[0]).State)
			r.calls(nodes[0], 1, Failed, time.Minute)
			synctest.Wait()
			require.Equal(t, Returning, r.status(nodes[0]).State, "it was sent before")
			r.calls(nodes[0], 1, Failed, 0)
		}
		synctest.Wait()
		require.Equal(t, ReasonRelapse, r.status(nodes[0]).Reason)
		time.Sleep(12 * time.Minute)
		synctest.Wait()
		require.Equal(t, Healthy, r.status(nodes[0]).State)
		r.calls(nodes[0], 3, Refused, 0)
		synctest.Wait()
		s := r.status(nodes[0])
		require.LessOrEqual(t, s.Until.Sub(s.Since), 5*time.Second, "long forgotten")
	})
}

func TestNoMoreThanAShareIsEjectedButForRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := started(t, 4, nil)
		for _, n := range nodes {
			r.calls(n, 20, Failed, time.Millisecond)
		}
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		healthy := 0
		for _, n := range nodes {
			if r.verdict(n).Healthy {
				healthy++
			}
		}
		require.Equal(t, 2, healthy)
		for _, n := range nodes {
			r.calls(n, 3, Refused, 0)
		}
		synctest.Wait()
		for _, n := range nodes {
			require.False(t, r.verdict(n).Healthy)
		}
		require.Equal(t, uint64(100), r.Head().Number, "it stays known")
	})
	synctest.Test(t, func(t *testing.T) {
		r, nodes := started(t, 1, nil)
		r.calls(nodes[0], 100, Failed, time.Millisecond)
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		require.True(t, r.verdict(nodes[0]).Healthy, "the only one")
	})
	synctest.Test(t, func(t *testing.T) {
		r, nodes := started(t, 3, nil)
		r.peer(nodes[0]).set(func(p *peer) { p.chain = 7 })
		checks(1)
		require.Equal(t, Unhealthy, r.status(nodes[0]).State)
		r.calls(nodes[1], 100, Failed, time.Millisecond)
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		require.True(t, r.verdict(nodes[1]).Healthy, "one of three is out already")
	})
}

func TestWhatEjectedANodeIsNotHeldAgainstItLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := started(t, 3, nil)
		r.calls(nodes[0], 20, Failed, time.Millisecond)
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, ReasonErrorRate, r.status(nodes[0]).Reason)
		checks(3) // two may be over before the longest time that it is out
		require.Equal(t, Returning, r.status(nodes[0]).State)
		checks(2)
		require.Equal(t, Returning, r.status(nodes[0]).State)
		require.Zero(t, r.status(nodes[0]).ErrorRate)
	})
}

func TestARelapseThatMayNotEjectHoldsTheShareBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := started(t, 3, nil)
		r.calls(nodes[0], 3, Refused, 0)
		synctest.Wait()
		time.Sleep(time.Until(r.status(nodes[0]).Until))
		checks(1)
		r.peer(nodes[1]).set(func(p *peer) { p.chain = 7 })
		time.Sleep(15 * time.Second)
		synctest.Wait()
		require.Greater(t, r.verdict(nodes[0]).Share, 0.4)
		r.calls(nodes[0], 1, Failed, 0)
		synctest.Wait()
		require.Equal(t, Returning, r.status(nodes[0]).State, "one of three is out already")
		require.InDelta(t, 0.1, r.verdict(nodes[0]).Share, 0.01)
		r.calls(nodes[0], 1, Refused, 0)
		synctest.Wait()
		require.Equal(t, Ejected, r.status(nodes[0]).State, "a refusal may")
	})
}

func TestTheOnlyNodeComesBackAtOnceAndInFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := started(t, 2, nil)
		for _, n := range nodes {
			r.peer(n).set(func(p *peer) { p.down = true })
			r.calls(n, 3, Refused, 0)
		}
		synctest.Wait()
		require.False(t, r.verdict(nodes[0]).Healthy)
		require.False(t, r.verdict(nodes[1]).Healthy)
		r.peer(nodes[1]).set(func(p *peer) { p.down = false })
		checks(1)
		require.Equal(t, Verdict{Healthy: true, Share: 1, Height: 100}, r.verdict(nodes[1]))
	})
}

func TestWithoutChecksTimeLetsANodeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, nodes := started(t, 2, func(c *Config) { c.Check = ModeNone })
		r.calls(nodes[0], 3, Refused, 0)
		synctest.Wait()
		require.Equal(t, Ejected, r.status(nodes[0]).State)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		require.Equal(t, Returning, r.status(nodes[0]).State)
		asked, _ := r.peer(nodes[0]).seen()
		require.Zero(t, asked)
		require.NoError(t, r.Check(t.Context(), nodes[0]))
	})
}

func TestBucketsCoverAllLatenciesInOrder(t *testing.T) {
	for b := range buckets {
		require.Equal(t, b, bucketOf(lower(b)))
		if b > 0 {
			require.Equal(t, b-1, bucketOf(lower(b)-1))
		}
	}
	require.Equal(t, 0, bucketOf(-time.Second))
	require.Equal(t, buckets-1, bucketOf(time.Hour))
}

func TestPercentilesAreKnownToAFifth(t *testing.T) {
	var c counters
	for i := 1; i <= 1000; i++ {
		c.count(Answered, time.Duration(i)*time.Millisecond)
	}
	var w tally
	c.read(&w)
	require.InEpsilon(t, float64(500*time.Millisecond), float64(w.percentile(0.5)), 0.2)
	require.InEpsilon(t, float64(700*time.Millisecond), float64(w.percentile(0.7)), 0.2)
	require.InEpsilon(t, float64(990*time.Millisecond), float64(w.percentile(0.99)), 0.2)
	require.Zero(t, (&tally{}).percentile(0.5))
}
