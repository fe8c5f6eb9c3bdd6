package health

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

// TestChaosOfNodes lets nodes die, hang, fail and slow down under calls, while the set and the configuration
// change and everything is read. What stays well must never be given up, and what went wrong must come back.
func TestChaosOfNodes(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Interval, cfg.Timeout, cfg.EjectMin, cfg.EjectMax = 20*time.Millisecond, 40*time.Millisecond, 20*time.Millisecond, 80*time.Millisecond
	cfg.ReturnTime, cfg.Window = 50*time.Millisecond, time.Second
	// Two cores under the race detector are slow enough to look like trouble.
	cfg.Fall = 5
	r := &rig{reg: prometheus.NewRegistry(), peers: map[rpcapi.Tag]*peer{}, verdicts: map[rpcapi.Tag]Verdict{}}
	ask := httpAsk(t)
	r.Monitor = newMonitor(t, cfg, ask, r)
	var nodes []*rpcapi.Node
	for range 5 {
		p := &peer{chain: 1, number: 100, finalized: 64}
		n := serve(t, p)
		r.peers[n.Tag] = p
		nodes = append(nodes, n)
	}
	r.Set(nodes)
	r.start(t)

	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				r.call(ctx, ask, nodes[rand.N(len(nodes))])
			}
		})
	}
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			r.Status()
			_, err := r.reg.Gather()
			if err != nil {
				t.Error(err)
			}
			r.Head()
			r.Set(nodes[:4])
			r.Set(nodes)
			if i%20 == 0 {
				next := cfg
				next.Rise += i / 20 % 2
				if err := r.Reload(next); err != nil {
					t.Error(err)
				}
			}
			r.Learned(nodes[1].Tag, 100, hashOf(100, ""))
			pause(ctx, 5*time.Millisecond)
		}
	})
	trouble := []func(*peer){
		func(p *peer) { p.down = true },
		func(p *peer) { p.hangs = true },
		func(p *peer) { p.status = 503 },
		func(p *peer) { p.chain = 9 },
		func(p *peer) { p.number = 1 },
		func(p *peer) { p.syncing = true },
	}
	for _, change := range trouble {
		r.peers[nodes[0].Tag].set(change)
		require.Eventually(t, func() bool { return !r.verdict(nodes[0]).Healthy }, 20*time.Second, 5*time.Millisecond)
		r.peers[nodes[0].Tag].mend()
		require.Eventually(t, func() bool { return r.verdict(nodes[0]).Healthy }, 20*time.Second, 5*time.Millisecond)
		require.Equal(t, uint64(100), r.Head().Number)
	}
	stop()
	wg.Wait()
	require.Eventually(t, func() bool {
		for _, n := range nodes {
			if v := r.verdict(n); !v.Healthy || v.Share < 1 {
				return false
			}
		}
		return true
	}, 20*time.Second, 5*time.Millisecond)
	require.Equal(t, rpcapi.Head{Number: 100, Hash: hashOf(100, ""), Finalized: 64}, r.Head())
}

// call is what the gateway does with a call.
func (r *rig) call(ctx context.Context, ask Ask, n *rpcapi.Node) {
	started := time.Now()
	own, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	status, _, err := ask(own, n, []byte(netVersion))
	o := Answered
	switch {
	case ctx.Err() != nil:
		o = Canceled
	case errors.Is(err, context.DeadlineExceeded):
		o = TimedOut
	case err != nil:
		o = Refused
	case status == http.StatusTooManyRequests:
		o = Throttled
	case status >= http.StatusInternalServerError:
		o = Failed
	}
	r.Observe(n.Tag, o, time.Since(started))
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
