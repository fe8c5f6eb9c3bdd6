package lifecycle_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/lifecycle"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journal notes what happens, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) note(s string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, s)
}

func (j *journal) noted() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.lines...)
}

// part runs until it is told to stop and then drains for a while.
func (j *journal) part(name string, drain time.Duration) lifecycle.Component {
	return lifecycle.Component{Name: name, Run: func(ctx context.Context) error {
		<-ctx.Done()
		j.note(name + " told")
		time.Sleep(drain) // synctest's clock
		j.note(name + " ended")
		return nil
	}}
}

func TestRunStopsInReverseAndWaitsForEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		err := lifecycle.Run(ctx, j.part("bus", time.Second), j.part("workers", 2*time.Second), j.part("ingress", time.Second))
		require.NoError(t, err)
		require.Equal(t, []string{
			"ingress told", "ingress ended", "workers told", "workers ended", "bus told", "bus ended",
		}, j.lines)
	})
}

func TestFirstFailureStopsAllAndIsNamedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		boom := errors.New("disk is gone")
		failing := lifecycle.Component{Name: "workers", Run: func(context.Context) error {
			time.Sleep(time.Second)
			return boom
		}}
		err := lifecycle.Run(t.Context(), j.part("bus", 0), failing, j.part("ingress", 0))
		require.ErrorIs(t, err, boom)
		require.EqualError(t, err, "workers: disk is gone")
		require.Equal(t, []string{"ingress told", "ingress ended", "bus told", "bus ended"}, j.lines)
	})
}

func TestNobodyDrainsIntoABaseThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		boom := errors.New("disk is gone")
		bus := lifecycle.Component{Name: "bus", Base: true, Run: func(context.Context) error { return boom }}
		began := time.Now()
		err := lifecycle.Run(t.Context(), j.part("admin", 0), bus, j.part("workers", time.Second), j.part("ingress", time.Hour))
		require.EqualError(t, err, "bus: disk is gone")
		require.Equal(t, lifecycle.AbandonAfter, time.Since(began))
		require.ElementsMatch(t, []string{"admin told", "admin ended", "workers told", "workers ended", "ingress told"}, j.noted())
		time.Sleep(time.Hour) // until the part that was left behind has ended
	})
}

func TestBaseDrainsLastWhenNothingFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		bus := j.part("bus", time.Second)
		bus.Base = true
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		require.NoError(t, lifecycle.Run(ctx, bus, j.part("ingress", 5*time.Second)))
		require.Equal(t, []string{"ingress told", "ingress ended", "bus told", "bus ended"}, j.lines)
	})
}

func TestPartThatEndsByItselfIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		quits := lifecycle.Component{Name: "egress", Run: func(context.Context) error { return nil }}
		err := lifecycle.Run(t.Context(), j.part("bus", 0), quits)
		require.ErrorIs(t, err, lifecycle.ErrEnded)
		require.EqualError(t, err, "egress: ended by itself")
	})
}

func TestPartThatMissesItsDrainDeadlineIsNamedAndLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		release := make(chan struct{})
		hangs := lifecycle.Component{Name: "egress", Drain: 3 * time.Second, Run: func(context.Context) error {
			<-release
			return nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		err := lifecycle.Run(ctx, j.part("bus", 0), hangs)
		require.ErrorIs(t, err, lifecycle.ErrDrain)
		require.EqualError(t, err, "egress: still running at the drain deadline (3s)")
		require.Equal(t, 4*time.Second, time.Since(start))
		require.Equal(t, []string{"bus told", "bus ended"}, j.lines)
		close(release)
	})
}

func TestFailuresWhileStoppingAreJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails := func(name string) lifecycle.Component {
			return lifecycle.Component{Name: name, Run: func(ctx context.Context) error {
				<-ctx.Done()
				return errors.New("flush")
			}}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := lifecycle.Run(ctx, fails("bus"), fails("ingress"))
		require.EqualError(t, err, "ingress: flush\nbus: flush")
	})
}

func TestBeingCancelledIsNotAFailure(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := lifecycle.Run(ctx, lifecycle.Component{Name: "bus", Run: func(ctx context.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}})
	require.NoError(t, err)
}

func TestRunWithoutComponentsReturns(t *testing.T) {
	require.NoError(t, lifecycle.Run(t.Context()))
}
