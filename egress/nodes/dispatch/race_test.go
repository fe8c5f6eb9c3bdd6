package dispatch

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

// ledger counts who is at a node.
type ledger struct {
	at, most [4]atomic.Int32
	served   atomic.Int32
	failed   atomic.Int32
}

func (l *ledger) enter(p Place) {
	l.served.Add(1)
	n := l.at[p.Tag].Add(1)
	for {
		old := l.most[p.Tag].Load()
		if n <= old || l.most[p.Tag].CompareAndSwap(old, n) {
			return
		}
	}
}

func (l *ledger) leave(p Place) { l.at[p.Tag].Add(-1) }

func TestNoPlaceIsLostOrGivenTwiceWhateverHappensAtOnce(t *testing.T) {
	const callers, rounds, places = 48, 150, 3
	d, err := New(Config{FastPerHigh: 2, LowEvery: 5, Timeout: 200 * time.Millisecond, DispatchTimeout: 20 * time.Millisecond, Max: [4]int{0, 0, 0, 12}}, prometheus.NewRegistry())
	require.NoError(t, err)
	all := []Member{{Tag: 1, Places: places}, {Tag: 2, Places: places}, {Tag: 3, Places: places}}
	d.Set(all)
	var l ledger
	ctx, cancel := context.WithCancel(context.Background())
	var churn, calls sync.WaitGroup
	churn.Go(func() {
		for ctx.Err() == nil {
			n := rand.IntN(4)
			d.Set(all[:n])
			for _, m := range all {
				d.Judge(m.Tag, Standing{State: State(rand.IntN(4)), Share: rand.Float64(), Height: rand.Uint64N(3)})
				d.Waiting(rpcapi.Low)
				d.Load()
			}
			time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
		}
	})
	for range callers {
		calls.Go(func() {
			for range rounds {
				w := Want{
					Class: rpcapi.Class(rand.IntN(3) + 1), Received: time.Now(), Position: Position(rand.IntN(3)),
					Height: rand.Uint64N(3), Client: rand.Uint64N(3),
				}
				if rand.IntN(4) == 0 {
					w.Node, w.Avoid = rpcapi.Tag(rand.IntN(4)), []rpcapi.Tag{rpcapi.Tag(rand.IntN(4))}
				}
				callOnce(d, &l, &w)
			}
		})
	}
	calls.Wait()
	cancel()
	churn.Wait()
	d.Set(all)
	d.Stop()
	require.NoError(t, d.Drain(t.Context()))
	require.Equal(t, int32(callers*rounds), l.served.Load()+l.failed.Load())
	require.Positive(t, l.served.Load())
	for i, load := range d.Load() {
		require.Zero(t, load.Busy)
		require.LessOrEqual(t, l.most[load.Tag].Load(), int32(places), "node %d", i)
	}
	require.Zero(t, d.waiting)
}

// callOnce waits for a place with a patience of its own and hedges now and then.
func callOnce(d *Dispatcher, l *ledger, w *Want) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.IntN(2000))*time.Microsecond)
	defer cancel()
	p, err := d.Acquire(ctx, w)
	if err != nil {
		l.failed.Add(1)
		return
	}
	l.enter(p)
	if rand.IntN(8) == 0 {
		w.Avoid = []rpcapi.Tag{p.Tag}
		if h, ok := d.TryAcquire(w); ok {
			l.enter(h)
			l.served.Add(-1)
			l.leave(h)
			d.Release(h)
		}
	}
	if rand.IntN(2) == 0 {
		time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
	}
	l.leave(p)
	d.Release(p)
}

func TestADrainThatIsCutSaysWhy(t *testing.T) {
	d, err := New(Config{}, prometheus.NewRegistry())
	require.NoError(t, err)
	d.Set(one)
	p, err := d.Acquire(t.Context(), &Want{Class: rpcapi.High})
	require.NoError(t, err)
	ctx, cancel := contextWithCause(errors.New("deadline of the role"))
	cancel()
	require.EqualError(t, d.Drain(ctx), "deadline of the role")
	d.Release(p)
	require.NoError(t, d.Drain(t.Context()))
}
