package dispatch

import (
	"math"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

func TestAFreedPlaceSkipsCallsThatItsNodeMayNotServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{FastPerHigh: 2}, two...)
		d.Judge(1, Standing{Height: 10})
		d.Judge(2, Standing{Height: 9})
		first, second := d.hold(1, 1)[0], d.hold(2, 1)[0]
		d.call("needs 10", Want{Class: rpcapi.FastTrack, Height: 10})
		d.call("only 1", Want{Class: rpcapi.FastTrack, Node: 1})
		d.call("not 2", Want{Class: rpcapi.High, Avoid: []rpcapi.Tag{2}})
		d.call("any", Want{Class: rpcapi.Low})
		d.release(second)
		require.Len(t, d.ended, 1)
		require.Equal(t, "any", d.ended[0].name)
		require.Equal(t, rpcapi.Tag(2), d.ended[0].place.Tag)
		require.Equal(t, "any", d.next())
		d.release(first)
		require.Equal(t, []string{"needs 10", "only 1", "not 2"}, d.rest())
	})
}

func TestACallAvoidsANodeUnlessAllAreToBeAvoided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{}, two...)
		held := d.hold(2, 1)[0]
		c := d.call("not 1", Want{Class: rpcapi.High, Avoid: []rpcapi.Tag{1}})
		require.False(t, c.done, "it waits for 2, which is only busy")
		both := d.call("neither", Want{Class: rpcapi.High, Avoid: []rpcapi.Tag{1, 2}})
		require.NoError(t, both.err)
		require.Equal(t, rpcapi.Tag(1), both.place.Tag)
		d.Judge(2, Standing{State: Unhealthy})
		d.release(both)
		require.False(t, c.done, "an unhealthy node may be back, an avoided one has failed this call")
		d.release(held)
		require.True(t, c.done)
		require.Equal(t, rpcapi.Tag(2), c.place.Tag)
		d.release(c)
	})
}

func TestTheUnhealthyAreUsedOnlyWhenAllAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{}, two...)
		d.Judge(1, Standing{State: Unhealthy})
		first := d.call("a", Want{Class: rpcapi.High})
		require.Equal(t, rpcapi.Tag(2), first.place.Tag)
		second := d.call("b", Want{Class: rpcapi.High})
		require.False(t, second.done)
		d.Judge(2, Standing{State: Unhealthy})
		synctest.Wait()
		require.Equal(t, rpcapi.Tag(1), second.place.Tag, "now all are")
		pinned := d.call("c", Want{Class: rpcapi.High, Node: 1})
		d.Judge(2, Standing{})
		d.release(second)
		require.Equal(t, rpcapi.Tag(1), pinned.place.Tag, "no other node has what it asks for")
	})
}

func TestANodeWithoutPlacesIsNobodysHealthyNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{}, Member{Tag: 1}, Member{Tag: 2, Places: 1})
		d.Judge(2, Standing{State: Unhealthy})
		require.Equal(t, rpcapi.Tag(2), d.call("a", Want{Class: rpcapi.High}).place.Tag)
	})
}

func TestAReturningNodeHasAShareOfItsPlaces(t *testing.T) {
	for _, c := range []struct {
		share float64
		want  int
	}{{0, 1}, {.05, 1}, {.5, 5}, {1, 10}, {7, 10}, {-1, 1}, {math.NaN(), 1}} {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t, Config{}, Member{Tag: 1, Places: 10})
			d.Judge(1, Standing{State: Returning, Share: c.share})
			require.Equal(t, c.want, d.Load()[0].Limit, c.share)
			held := d.hold(1, c.want)
			next := d.call("next", Want{Class: rpcapi.High})
			require.False(t, next.done)
			d.Judge(1, Standing{State: Healthy})
			synctest.Wait()
			require.Equal(t, c.want < 10, next.done)
			for _, h := range held {
				d.release(h)
			}
			require.True(t, next.done)
		})
	}
}

func TestALoweredLimitTakesEffectAsPlacesComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{}, Member{Tag: 1, Places: 3})
		held := d.hold(1, 3)
		c := d.call("h", Want{Class: rpcapi.High})
		d.Set([]Member{{Tag: 1, Places: 1}})
		d.release(held[0])
		d.release(held[1])
		require.False(t, c.done)
		d.release(held[2])
		require.True(t, c.done)
	})
}

func TestAddedNodesServeWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{}, one...)
		d.hold(1, 1)
		for range 4 {
			d.call("h", Want{Class: rpcapi.High})
		}
		d.Set([]Member{{Tag: 1, Places: 1}, {Tag: 2, Places: 2}, {Tag: 3, Places: 2}, {Tag: 3, Places: 9}, {}})
		synctest.Wait()
		require.Equal(t, map[rpcapi.Tag]int{1: 1, 2: 2, 3: 2}, d.busy())
	})
}

func TestARemovedNodesPlacesEndNormally(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{}, two...)
		first, second := d.hold(1, 1)[0], d.hold(2, 1)[0]
		pinned := d.call("pinned", Want{Class: rpcapi.High, Node: 1})
		other := d.call("any", Want{Class: rpcapi.High})
		d.Set([]Member{{Tag: 2, Places: 1}})
		synctest.Wait()
		require.ErrorIs(t, pinned.err, rpcapi.ErrFilterNotFound)
		require.ErrorIs(t, d.call("late", Want{Class: rpcapi.High, Node: 1}).err, rpcapi.ErrFilterNotFound)
		require.False(t, other.done)
		d.Set(two)
		require.Equal(t, map[rpcapi.Tag]int{1: 1, 2: 1}, d.busy(), "it came back with the place that is still taken")
		require.False(t, other.done)
		d.Set([]Member{{Tag: 2, Places: 1}})
		d.release(first)
		require.False(t, other.done, "a place of a node that is gone serves nobody")
		require.Empty(t, d.gone)
		d.Set(nil)
		synctest.Wait()
		require.ErrorIs(t, other.err, rpcapi.ErrNoNode)
		d.release(second)
		require.NoError(t, d.Drain(t.Context()))
	})
}

func TestAMemberStartsAsItIsToldAndKeepsWhatIsThoughtOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{}, two...)
		d.Judge(9, Standing{State: Unhealthy})
		dead := Member{Tag: 9, Places: 4, Standing: Standing{State: Unhealthy, Height: 3}}
		d.Set(append([]Member{dead}, two...))
		require.Equal(t, Load{Tag: 9, Places: 4, Limit: 4, Standing: Standing{State: Unhealthy, Height: 3}}, d.Load()[0])
		d.Judge(9, Standing{State: Returning, Share: .5, Height: 4})
		d.Set([]Member{dead})
		require.Equal(t, []Load{{Tag: 9, Places: 4, Limit: 2, Standing: Standing{State: Returning, Share: .5, Height: 4}}}, d.Load())
	})
}

func TestAHedgeTakesAFreePlaceOfAnotherNodeOrNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{}, two...)
		p, ok := d.TryAcquire(&Want{Class: rpcapi.High, Avoid: []rpcapi.Tag{1}})
		require.True(t, ok)
		require.Equal(t, rpcapi.Tag(2), p.Tag)
		_, ok = d.TryAcquire(&Want{Class: rpcapi.High, Avoid: []rpcapi.Tag{1}})
		require.False(t, ok)
		d.Judge(2, Standing{State: Unhealthy})
		d.Release(p)
		_, ok = d.TryAcquire(&Want{Class: rpcapi.High, Avoid: []rpcapi.Tag{1}})
		require.False(t, ok, "neither where the call is already, nor where nobody is sent")
		require.Equal(t, map[rpcapi.Tag]int{1: 0, 2: 0}, d.busy())
	})
}

func TestTwoIdleNodesAreBothUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{}, Member{Tag: 1, Places: 9}, Member{Tag: 2, Places: 9})
		seen := map[rpcapi.Tag]int{}
		for range 400 {
			p, err := d.Acquire(t.Context(), &Want{Class: rpcapi.High})
			require.NoError(t, err)
			seen[p.Tag]++
			d.Release(p)
		}
		require.Greater(t, seen[1], 100)
		require.Greater(t, seen[2], 100)
	})
}

func TestPlacesAreTakenByWeight(t *testing.T) {
	members := []Member{{Tag: 1, Places: 1000, Weight: 3}, {Tag: 2, Places: 1000}, {Tag: 3, Places: 1000, Weight: math.NaN()}}
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{}, members...)
		for range 500 {
			_, err := d.Acquire(t.Context(), &Want{Class: rpcapi.High})
			require.NoError(t, err)
		}
		busy := d.busy()
		require.InDelta(t, 300, busy[1], 50)
		require.InDelta(t, 100, busy[2], 30)
		require.InDelta(t, 100, busy[3], 30)
	})
}

func TestAClientKeepsItsNode(t *testing.T) {
	members := []Member{{Tag: 11, Places: 2, Weight: 2}, {Tag: 22, Places: 2}, {Tag: 33, Places: 2}}
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{Balance: ByClient}, members...)
		seen := map[rpcapi.Tag]int{}
		take := func(client uint64) Place {
			p, err := d.Acquire(t.Context(), &Want{Class: rpcapi.High, Client: client})
			require.NoError(t, err)
			return p
		}
		for client := uint64(1); client <= 4000; client++ {
			p, again := take(client), take(client)
			require.Equal(t, p.Tag, again.Tag)
			third := take(client)
			require.NotEqual(t, p.Tag, third.Tag, "its node is full: the next one by score")
			d.Release(third)
			d.Release(again)
			d.Release(p)
			d.Judge(p.Tag, Standing{State: Unhealthy})
			next := take(client)
			require.Equal(t, third.Tag, next.Tag)
			d.Release(next)
			d.Judge(p.Tag, Standing{})
			seen[p.Tag]++
		}
		require.InDelta(t, 2000, seen[11], 200)
		require.InDelta(t, 1000, seen[22], 150)
		require.InDelta(t, 1000, seen[33], 150)
		_, err := d.Acquire(t.Context(), &Want{Class: rpcapi.High})
		require.NoError(t, err, "no client")
	})
}
