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
// percentile of the latter.
func flooded(t *testing.T, low, fast *gateway) time.Duration {
	t.Helper()
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
	var took, queued []time.Duration
	calls := upTo(int(short(200, 1000)))
	crowd(t, 2, calls, func(i int) said {
		return ask(t.Context(), fast.prio, fmt.Sprintf(`"fast %d"`, i), "X-Fast-Track", "true")
	}, func(_ int, s said) {
		require.Equal(t, 200, s.status, "%s", s)
		took = append(took, s.took)
		micros, err := strconv.Atoi(s.header.Get("X-PrioLB-QueueDurationUs"))
		require.NoError(t, err)
		queued = append(queued, time.Duration(micros)*time.Microsecond)
	})
	require.Greater(t, low.served(t)+fast.served(t)-before, len(took), "low calls were served as well")
	close(stop)
	flood.Wait()
	slices.Sort(took)
	slices.Sort(queued)
	at := func(all []time.Duration, percent int) time.Duration { return all[len(all)*percent/100] }
	report(t, "fast-track while 64 clients flood with low calls, 8 workers of %s: p50 %s p99 %s, of that in this process's queue %s and %s; %d low calls",
		service, at(took, 50).Round(time.Millisecond), at(took, 99).Round(time.Millisecond), at(queued, 50), at(queued, 99), served)
	return at(took, 99)
}

// served is how many calls this process has had a place for.
func (g *gateway) served(t *testing.T) (n int) {
	t.Helper()
	for _, class := range []string{"fast", "low"} {
		n += g.gauge(t, `millrace_gateway_queue_wait_seconds_count{class="`+class+`"}`)
	}
	return n
}

// fastEnough is two service times, where the machine is ours.
func fastEnough() time.Duration { return short(25*service, 2*service) }

func TestGatewayFastTrackOvertakesAFloodOfLowCalls(t *testing.T) {
	n := newFakeNode(t, "a")
	n.set(func(n *fakeNode) { n.service = service })
	g := startGateway(t, []string{n.url() + "?_workers=8"})
	require.Less(t, flooded(t, g, g), fastEnough())
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
	require.Less(t, flooded(t, low, fast), fastEnough())
	require.LessOrEqual(t, n.peakEver(), 8)
}
