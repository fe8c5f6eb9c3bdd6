//go:build e2e && linux

package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Two processes have one limit of 100 calls a second: under full demand at both, no second has more than 120.
func TestGatewaysOfOneBusShareALimit(t *testing.T) {
	n := newFakeNode(t, "a")
	args := append(startGatewayBus(t), "--gateway.rate_limit.all.total=100/s", "--gateway.cache.max_bytes=0")
	both := []*gateway{newGateway(t, "one", []string{n.url()}, args...), newGateway(t, "two", []string{n.url()}, args...)}
	for _, g := range both {
		g.start(t)
	}
	for _, g := range both {
		g.waitReady(t)
		eventually(t, 10*time.Second, func() bool { return g.gauge(t, "millrace_gateway_limit_peers") == 1 }, "it hears the other")
	}
	var admitted []time.Time
	by, refused := map[string]int{}, 0
	until := time.Now().Add(short(4*time.Second, 20*time.Second))
	crowd(t, 6, func(int) bool { return time.Now().Before(until) }, func(i int) said {
		return ask(t.Context(), both[i%2].rpc, method(i, "eth_gasPrice", fmt.Sprint(i)))
	}, func(i int, s said) {
		r := answered(t, s)
		if r.Error == nil {
			admitted = append(admitted, time.Now())
			by[both[i%2].name]++
			return
		}
		refused++
		require.Equal(t, -32005, r.Error.Code, "%s", s)
		require.Regexp(t, `^rate limit exceeded, retry in \d+ seconds$`, r.Error.Message)
		require.NotEmpty(t, s.header.Get("Retry-After"))
	})
	most := busiest(admitted, time.Second)
	report(t, "one limit of 100/s at two gateways: at most %d in a second, %v in all, %d refused", most, by, refused)
	require.LessOrEqual(t, most, 120)
	require.GreaterOrEqual(t, most, 80, "it is not half of it either")
	require.Greater(t, refused, len(admitted), "there was demand")
}

// busiest is the most of these moments in any stretch of so long.
func busiest(at []time.Time, stretch time.Duration) (most int) {
	slices.SortFunc(at, time.Time.Compare)
	first := 0
	for i := range at {
		for at[i].Sub(at[first]) >= stretch {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// service is how long the backend of the tests below takes.
const service = 20 * time.Millisecond

// flooded has low calls flood one gateway while fast-track ones go to another, or the same; it returns the 99th
// percentile of the latter, and what it was before the flood, when each call takes one service time.
func flooded(t *testing.T, low, fast *gateway) (p99, alone time.Duration) {
	t.Helper()
	before99, _ := fastCalls(t, fast)
	alone = pct(before99, 99)
	stop := make(chan struct{})
	var flood sync.WaitGroup
	served := 0
	flood.Go(func() {
		crowd(t, 64, func(int) bool {
			select {
			case <-stop:
				return false
			default:
				return true
			}
		}, func(i int) said { return ask(t.Context(), low.prio, fmt.Sprintf(`"low %d"`, i)) }, func(_ int, s said) {
			if served++; s.status != 200 {
				t.Errorf("low: %s", s)
			}
		})
	})
	eventually(t, 10*time.Second, func() bool { return low.served(t) > 64 }, "the flood is served")
	before := low.served(t) + fast.served(t)
	took, queued := fastCalls(t, fast)
	require.Greater(t, low.served(t)+fast.served(t)-before, len(took), "low calls were served as well")
	close(stop)
	flood.Wait()
	report(t, "fast-track while 64 clients flood with low calls, 8 workers of %s: p50 %s p99 %s (alone p50 %s p99 %s), of that in this process's queue %s and %s; %d low calls",
		service, pct(took, 50), pct(took, 99), pct(before99, 50), alone, pct(queued, 50), pct(queued, 99), served)
	return pct(took, 99), alone
}

// fastCalls makes fast-track calls at one gateway, two at a time, and returns how long they took and how much of it
// they waited for a place, each sorted.
func fastCalls(t *testing.T, g *gateway) (took, queued []time.Duration) {
	t.Helper()
	crowd(t, 2, upTo(int(short(200, 1000))), func(i int) said {
		return ask(t.Context(), g.prio, fmt.Sprintf(`"fast %d"`, i), "X-Fast-Track", "true")
	}, func(_ int, s said) {
		require.Equal(t, 200, s.status, "%s", s)
		took = append(took, s.took)
		micros, err := strconv.Atoi(s.header.Get("X-PrioLB-QueueDurationUs"))
		require.NoError(t, err)
		queued = append(queued, time.Duration(micros)*time.Microsecond)
	})
	slices.Sort(took)
	slices.Sort(queued)
	return took, queued
}

// pct is a percentile of what is sorted.
func pct(all []time.Duration, percent int) time.Duration {
	return all[len(all)*percent/100].Round(100 * time.Microsecond)
}

// served is how many calls this process has had a place for.
func (g *gateway) served(t *testing.T) (n int) {
	t.Helper()
	for _, class := range []string{"fast", "low"} {
		n += g.gauge(t, `millrace_gateway_queue_wait_seconds_count{class="`+class+`"}`)
	}
	return n
}

// requireFast wants two service times at most, as calls alone take them in the same run: the one that is under way
// and the own. Where the machine is not ours it wants a sane figure only.
func requireFast(t *testing.T, p99, alone time.Duration) {
	t.Helper()
	require.Less(t, p99, short(25*service, 2*alone))
}

func TestGatewayFastTrackOvertakesAFloodOfLowCalls(t *testing.T) {
	n := newFakeNode(t, "a")
	n.set(func(n *fakeNode) { n.service = service })
	g := startGateway(t, []string{n.url() + "?_workers=8"})
	p99, alone := flooded(t, g, g)
	requireFast(t, p99, alone)
}

// With the shared queue the flood is at another process.
func TestGatewayFastTrackOvertakesAFloodAtAnotherProcess(t *testing.T) {
	n := newFakeNode(t, "a")
	n.set(func(n *fakeNode) { n.service = service })
	args := append(startGatewayBus(t, "--gateway.queue=shared"), "--gateway.queue=shared")
	low := newGateway(t, "low", []string{n.url() + "?_workers=4"}, args...)
	fast := newGateway(t, "fast", []string{n.url() + "?_workers=4"}, args...)
	low.start(t)
	fast.up(t)
	low.waitReady(t)
	p99, alone := flooded(t, low, fast)
	requireFast(t, p99, alone)
	require.LessOrEqual(t, n.peakEver(), 8)
}
