package dispatch

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

func contextWithCause(cause error) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	return ctx, func() { cancel(cause) }
}

// pass lets time pass, and all who are woken by it come to rest.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestDeadlinesFireOnTimeWhereverACallStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{}, one...)
		start := time.Now()
		d.hold(1, 1)
		// The last one that came is the oldest: a retry, or one whose body took long.
		var calls []*caller
		for i := range 5 {
			calls = append(calls, d.call("h", Want{Class: rpcapi.High, Received: start.Add(-time.Duration(i) * time.Second)}))
		}
		calls = append(calls, d.call("again", Want{Class: rpcapi.Low, Position: Front, Received: start.Add(-1500 * time.Millisecond)}))
		pass(10 * time.Second)
		for _, c := range calls {
			require.ErrorIs(t, c.err, rpcapi.ErrQueueTimeout)
			require.Equal(t, c.want.Received.Add(5*time.Second), c.at)
		}
		require.ErrorIs(t, d.call("late", Want{Class: rpcapi.High, Received: start}).err, rpcapi.ErrQueueTimeout)
	})
}

func TestWithoutNodesACallFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{})
		require.ErrorIs(t, d.call("h", Want{Class: rpcapi.High}).err, rpcapi.ErrNoNode)
		_, ok := d.TryAcquire(&Want{})
		require.False(t, ok)
	})
}

func TestWithoutPlacesACallFailsAfterTheDispatchTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{}, Member{Tag: 1}, Member{Tag: 2, Places: -1})
		start := time.Now()
		var calls []*caller
		for range 4 {
			calls = append(calls, d.call("l", Want{Class: rpcapi.Low}))
		}
		pass(3 * time.Second)
		for _, c := range calls {
			require.ErrorIs(t, c.err, rpcapi.ErrNodeTimeout)
			require.Equal(t, 2*time.Second, c.at.Sub(start))
		}
		require.Zero(t, d.Waiting(rpcapi.Low))
	})
}

func TestACallThatNoNodeCanServeFailsAfterTheDispatchTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{}, two...)
		start := time.Now()
		d.Judge(1, Standing{Height: 90})
		d.Judge(2, Standing{Height: 91})
		c := d.call("h", Want{Class: rpcapi.High, Height: 100})
		pass(3 * time.Second)
		require.ErrorIs(t, c.err, rpcapi.ErrNoNode)
		require.Equal(t, 2*time.Second, c.at.Sub(start))
		saved := d.call("h", Want{Class: rpcapi.High, Height: 100})
		pass(1900 * time.Millisecond)
		d.Judge(2, Standing{Height: 100})
		synctest.Wait()
		require.NoError(t, saved.err)
		require.Equal(t, rpcapi.Tag(2), saved.place.Tag)
		require.Equal(t, uint64(100), saved.place.Height)
		require.Equal(t, 1900*time.Millisecond, saved.place.Queued)
	})
}

func TestACallIsLookedAtAgainWhenNodesAreLostWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{Timeout: time.Minute}, one...)
		start := time.Now()
		d.hold(1, 1)
		c := d.call("h", Want{Class: rpcapi.High})
		pass(3 * time.Second)
		require.False(t, c.done, "its node is only busy")
		d.Set([]Member{{Tag: 1}})
		pass(2 * time.Second)
		require.ErrorIs(t, c.err, rpcapi.ErrNodeTimeout)
		require.Equal(t, 4*time.Second, c.at.Sub(start))
	})
}

func TestAlarmsOfCallsThatLeftAreSweptOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, Config{}, one...)
		held := d.hold(1, 1)[0]
		for range 10_000 {
			c := d.call("h", Want{Class: rpcapi.High})
			d.release(held)
			require.True(t, c.done)
			held = c
		}
		require.LessOrEqual(t, len(d.alarms.heap), sweepMin)
		d.release(held)
		pass(10 * time.Second)
		require.Empty(t, d.alarms.heap)
		require.False(t, d.armed, "an idle dispatcher has no timer")
	})
}
