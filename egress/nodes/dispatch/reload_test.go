package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

func TestAReloadLetsQueuedCallsStandAndCapsThoseWhoCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{FastPerHigh: 2}, one...)
		held := d.hold(1, 1)[0]
		d.calls("l1", "l2", "l3", "h1", "h2", "f1", "f2")
		require.NoError(t, d.Reload(Config{DrainFast: true, Max: [4]int{rpcapi.Low: 2}}))
		require.Equal(t, 3, d.Waiting(rpcapi.Low), "all that were let in still wait")
		require.ErrorIs(t, d.call("l4", Want{Class: rpcapi.Low}).err, rpcapi.ErrQueueFull)
		d.ended = nil
		d.release(held)
		require.Equal(t, []string{"f1", "f2", "h1", "h2", "l1", "l2", "l3"}, d.rest(), "by the new order")
	})
}

func TestAReloadKeepsTheDeadlinesOfQueuedCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{}, one...)
		held := d.hold(1, 1)[0]
		before := d.call("before", Want{Class: rpcapi.High})
		require.NoError(t, d.Reload(Config{Timeout: time.Second}))
		after := d.call("after", Want{Class: rpcapi.High})
		pass(10 * time.Second)
		require.ErrorIs(t, before.err, rpcapi.ErrQueueTimeout)
		require.Equal(t, before.want.Received.Add(5*time.Second), before.at)
		require.Equal(t, after.want.Received.Add(time.Second), after.at)
		d.release(held)
	})
}

func TestTheServingOrderGoesOnFromWhereItStandsAtAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{FastPerHigh: 2}, one...)
		held := d.hold(1, 1)[0]
		d.calls("f1", "f2", "f3", "h1", "h2")
		d.release(held)
		require.Equal(t, "f1", d.next())
		require.NoError(t, d.Reload(Config{FastPerHigh: 1}))
		require.Equal(t, "f2", d.next(), "it had its place already")
		require.Equal(t, []string{"h1", "f3", "h2"}, d.rest())
	})
}

func TestAFaultyReloadChangesNothing(t *testing.T) {
	d := newDesk(t, Config{Max: [4]int{rpcapi.Low: 7}}, one...)
	require.Error(t, d.Reload(Config{FastPerHigh: -1, Max: [4]int{rpcapi.Low: 9}}))
	require.InDelta(t, 7, testutil.ToFloat64(d.metrics.capacity[rpcapi.Low]), 0)
	require.NoError(t, d.Reload(Config{Max: [4]int{rpcapi.Low: 9}}))
	require.InDelta(t, 9, testutil.ToFloat64(d.metrics.capacity[rpcapi.Low]), 0)
}

func TestFewerPlacesWaitForThoseThatAreTakenAndMoreServeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{}, Member{Tag: 1, Places: 3})
		held := d.hold(1, 3)
		d.Set([]Member{{Tag: 1, Places: 1}})
		d.calls("l1", "l2")
		d.release(held[0])
		d.release(held[1])
		require.Empty(t, d.ended, "one place is left, and it is taken")
		require.Equal(t, Load{Tag: 1, Busy: 1, Places: 1, Limit: 1, Standing: Standing{State: Healthy}}, d.Load()[0])
		d.Set([]Member{{Tag: 1, Places: 3}})
		synctest.Wait()
		require.Len(t, d.ended, 2, "both are served")
		d.release(held[2])
		d.rest()
		require.Zero(t, d.busy()[1])
	})
}
