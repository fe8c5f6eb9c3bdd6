package dispatch

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

var (
	one = []Member{{Tag: 1, Places: 1}}
	two = []Member{{Tag: 1, Places: 1}, {Tag: 2, Places: 1}}
)

func TestAOneWorkerNodeSeesPrioLoadBalancersOrder(t *testing.T) {
	t.Run("N=2, and a high call before any fast-track one came", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t, Config{FastPerHigh: 2}, one...)
			d.calls("l1", "l2", "l3", "l4", "h1", "h2", "h3", "h4")
			require.Equal(t, "l1", d.next())
			d.calls("f1", "f2", "f3", "f4", "f5")
			require.Equal(t, []string{"h1", "f1", "f2", "h2", "f3", "f4", "h3", "f5", "h4", "l2", "l3", "l4"}, d.rest())
		})
	})
	all := []string{"l1", "l2", "l3", "l4", "h1", "h2", "h3", "h4", "f1", "f2", "f3", "f4", "f5"}
	t.Run("drain first", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t, Config{FastPerHigh: 2, DrainFast: true}, one...)
			d.calls(all...)
			require.Equal(t, []string{"l1", "f1", "f2", "f3", "f4", "f5", "h1", "h2", "h3", "h4", "l2", "l3", "l4"}, d.rest())
		})
	})
	t.Run("N=0", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t, Config{}, one...)
			d.calls(all...)
			require.Equal(t, []string{"l1", "h1", "h2", "h3", "h4", "f1", "f2", "f3", "f4", "f5", "l2", "l3", "l4"}, d.rest())
		})
	})
	t.Run("one low after three others", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t, Config{FastPerHigh: 2, LowEvery: 3}, one...)
			d.calls(all...)
			require.Equal(t, []string{"l1", "f1", "f2", "h1", "l2", "f3", "f4", "h2", "l3", "f5", "h3", "h4", "l4"}, d.rest())
		})
	})
}

func TestACallThatIsServedAtOnceTakesATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{FastPerHigh: 2}, one...)
		d.calls("f1", "f2", "f3", "h1")
		require.Equal(t, []string{"f1", "f2", "h1", "f3"}, d.rest())
	})
}

func TestAClassIsRefusedByItsOwnCapOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{FastPerHigh: 2, Max: [4]int{rpcapi.FastTrack: 2, rpcapi.Low: 1}}, one...)
		d.calls("l1", "l2")
		low := d.call("l3", Want{Class: rpcapi.Low})
		require.ErrorIs(t, low.err, rpcapi.ErrQueueFull)
		d.ended = d.ended[:1]
		d.calls("f1", "f2", "h1", "h2", "h3")
		require.ErrorIs(t, d.call("f3", Want{Class: rpcapi.FastTrack}).err, rpcapi.ErrQueueFull)
		d.ended = d.ended[:1]
		retry := d.call("retry", Want{Class: rpcapi.Low, Position: Front})
		require.False(t, retry.done, "a retry is never refused")
		require.Equal(t, 2, d.Waiting(rpcapi.Low))
		require.Equal(t, []string{"l1", "f1", "f2", "h1", "h2", "h3", "retry", "l2"}, d.rest())
		n, err := testutil.GatherAndCount(d.reg, "millrace_gateway_queue_refused_total")
		require.NoError(t, err)
		require.Equal(t, 21, n, "every label value is there from the start")
		require.InDelta(t, 1, testutil.ToFloat64(d.metrics.refused[rpcapi.Low][rpcapi.ReasonQueueFull]), 0)
	})
}

func TestMetricsTellHowManyWaitAndHowLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{Max: [4]int{rpcapi.High: 9}}, one...)
		d.calls("h1", "h2", "h3")
		require.NoError(t, testutil.GatherAndCompare(d.reg, strings.NewReader(`
# HELP millrace_gateway_queue_capacity How many calls may wait; 0: any number.
# TYPE millrace_gateway_queue_capacity gauge
millrace_gateway_queue_capacity{class="fast"} 0
millrace_gateway_queue_capacity{class="high"} 9
millrace_gateway_queue_capacity{class="low"} 0
# HELP millrace_gateway_queue_length Calls that wait.
# TYPE millrace_gateway_queue_length gauge
millrace_gateway_queue_length{class="fast"} 0
millrace_gateway_queue_length{class="high"} 2
millrace_gateway_queue_length{class="low"} 0
`), "millrace_gateway_queue_capacity", "millrace_gateway_queue_length"))
		time.Sleep(time.Second)
		d.rest()
		families, err := d.reg.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() != "millrace_gateway_queue_wait_seconds" {
				continue
			}
			high := f.GetMetric()[1].GetHistogram()
			require.Equal(t, uint64(3), high.GetSampleCount())
			require.Equal(t, uint64(1), high.GetBucket()[0].GetCumulativeCount(), "one did not wait")
			require.InDelta(t, 2, high.GetSampleSum(), 1e-9)
			return
		}
		require.Fail(t, "there is no such histogram")
	})
}

func TestRetriesGoFirstInTheirClassAndInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{FastPerHigh: 2}, one...)
		d.calls("h0", "h1", "h2")
		d.call("again 1", Want{Class: rpcapi.High, Position: Front})
		d.call("again 2", Want{Class: rpcapi.High, Position: Front})
		d.calls("f1")
		require.Equal(t, []string{"h0", "f1", "again 1", "again 2", "h1", "h2"}, d.rest())
	})
}

func TestAPlaceSaysWhatTheCallWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{}, one...)
		d.Judge(1, Standing{State: Healthy, Height: 7})
		first := d.call("h1", Want{Class: rpcapi.High})
		require.Equal(t, Place{Tag: 1, Height: 7, QueueStart: 1, node: first.place.node}, first.place)
		second := d.call("h2", Want{Class: rpcapi.High})
		d.call("h3", Want{Class: rpcapi.High})
		time.Sleep(30 * time.Millisecond)
		d.release(first)
		require.Equal(t, Place{Tag: 1, Height: 7, Queued: 30 * time.Millisecond, QueueStart: 1, QueueEnd: 1, node: first.place.node}, second.place)
		d.ended = d.ended[1:]
		d.rest()
	})
}

func TestACallThatLeavesMakesRoomAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{Max: [4]int{rpcapi.High: 1}}, one...)
		held := d.hold(1, 1)
		gone := errors.New("the client left")
		c := d.call("h1", Want{Class: rpcapi.High})
		c.cancel(gone)
		synctest.Wait()
		require.ErrorIs(t, c.err, gone)
		require.Zero(t, d.Waiting(rpcapi.High))
		require.False(t, d.call("h2", Want{Class: rpcapi.High}).done, "there is room again")
		d.ended = d.ended[1:]
		d.release(held[0])
		require.Equal(t, []string{"h2"}, d.rest())
		require.InDelta(t, 1, testutil.ToFloat64(d.metrics.refused[rpcapi.High][rpcapi.ReasonCanceled]), 0)
	})
}

func TestAPlaceGrantedToACallThatLeavesIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{}, one...)
		for range 200 { // select takes either way
			held := d.hold(1, 1)
			a, b := d.call("a", Want{Class: rpcapi.High}), d.call("b", Want{Class: rpcapi.Low})
			a.cancel(nil)
			d.Release(held[0].place)
			held[0].cancel(nil)
			synctest.Wait()
			if a.err == nil {
				d.release(a)
			}
			require.True(t, b.done)
			require.NoError(t, b.err)
			d.release(b)
			d.ended = d.ended[:0]
			require.Equal(t, map[rpcapi.Tag]int{1: 0}, d.busy())
		}
	})
}

func TestAnEndedContextGetsNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{}, one...)
		ctx, cancel := contextWithCause(errors.New("gone before"))
		cancel()
		_, err := d.Acquire(ctx, &Want{Class: rpcapi.High})
		require.EqualError(t, err, "gone before")
		require.Equal(t, map[rpcapi.Tag]int{1: 0}, d.busy())
	})
}

func TestAfterStopOnlyWhatIsUnderWayGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{}, one...)
		held := d.hold(1, 1)
		waits := d.call("h1", Want{Class: rpcapi.High})
		d.Stop()
		require.ErrorIs(t, d.call("h2", Want{Class: rpcapi.High}).err, rpcapi.ErrStopping)
		again := d.call("again", Want{Class: rpcapi.Low, Position: Front})
		short, cancel := contextWithCause(errors.New("too long"))
		cancel()
		require.EqualError(t, d.Drain(short), "too long")
		drained := false
		go func() {
			drained = d.Drain(t.Context()) == nil
		}()
		for _, c := range []*caller{held[0], waits, again} {
			synctest.Wait()
			require.False(t, drained)
			require.True(t, c.done)
			d.release(c)
		}
		require.True(t, drained)
		require.NoError(t, d.Drain(t.Context()), "it stays so")
	})
}

func TestAPlaceGivenBackTwiceIsToldWhereItShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{}, one...)
		c := d.hold(1, 1)[0]
		d.release(c)
		require.Panics(t, func() { d.Release(c.place) })
		d.Release(Place{})
		d.hold(1, 1)
	})
}

func TestConfigTellsAllItsFaults(t *testing.T) {
	_, err := New(Config{
		Max: [4]int{rpcapi.Low: -1}, FastPerHigh: -1, LowEvery: -1, Timeout: -1, DispatchTimeout: -1, Balance: 9,
	}, nil)
	for _, key := range []string{"low_max", "fast_per_high", "low_every", "timeout", "dispatch_timeout", "balance(9)"} {
		require.ErrorContains(t, err, key)
	}
	require.NoError(t, Config{}.Validate())
}
