//go:build e2e && linux

package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// One of two nodes is killed under load: prio-load-balancer then loses 121 of 200 calls.
func TestGatewayLosesNoCallWhenOneOfTwoNodesDies(t *testing.T) {
	beside(t)
	a, b := newFakeNode(t, "a"), newFakeNode(t, "b")
	for _, n := range []*fakeNode{a, b} {
		n.set(func(n *fakeNode) { n.service = 20 * time.Millisecond })
	}
	g := startGateway(t, []string{a.url(), b.url()})
	failed, retried := 0, 0
	crowd(t, 24, upTo(1000), func(i int) said {
		if i == 200 {
			b.kill()
		}
		if i%2 == 0 {
			return ask(t.Context(), g.prio, simulation)
		}
		return ask(t.Context(), g.rpc, method(i, "eth_getBalance", fmt.Sprintf(`"0x%040x","latest"`, i)))
	}, func(i int, s said) {
		if s.err != nil || s.status != http.StatusOK || i%2 == 1 && s.header.Get("X-LB-Error") != "" {
			failed++
			t.Logf("call %d: %s", i, s)
		}
		if s.header.Get("X-LB-Tries") > "1" {
			retried++
		}
	})
	report(t, "one of two nodes killed: %d of 1000 calls failed, %d were tried again", failed, retried)
	require.Zero(t, failed)
	require.NotZero(t, retried, "the node was killed under load")
}

// An operator's SIGTERM: unready first, and all that was begun is answered.
func TestGatewayCutsNothingAtSIGTERM(t *testing.T) {
	n := newFakeNode(t, "a")
	n.set(func(n *fakeNode) { n.service = 50 * time.Millisecond })
	g := startGateway(t, []string{n.url() + "?_workers=64"})
	var unready, last atomic.Int64 // when /readyz said so, when the last answer came
	done := make(chan struct{})
	go func() {
		defer close(done)
		// As a balancer in front would: no new calls once it is unready.
		crowd(t, 32, func(int) bool { return unready.Load() == 0 }, func(i int) said {
			door := []string{g.prio, g.rpc}[i%2]
			return ask(t.Context(), door, method(i, "eth_call", fmt.Sprintf(`{"to":"0x%040x"},"latest"`, i)))
		}, func(i int, s said) {
			last.Store(time.Now().UnixNano())
			if s.err != nil || s.status != http.StatusOK || s.header.Get("X-LB-Error") != "" {
				t.Errorf("call %d: %s", i, s)
			}
		})
	}()
	eventually(t, 5*time.Second, func() bool { return len(n.calls()) > 200 }, "calls are served")
	open := n.shut() // from here on calls last until it is called
	eventually(t, 5*time.Second, func() bool { return n.busyNow() == 32 }, "all clients wait")
	g.signal(t, syscall.SIGTERM)
	eventually(t, 5*time.Second, func() bool { status, _ := get(g.admin + "/readyz"); return status == http.StatusServiceUnavailable }, "it turns unready")
	status, _ := get(g.prio + "/")
	require.Equal(t, http.StatusOK, status, "it still takes connections")
	nap(t, time.Second) // longer than it takes new connections
	require.False(t, g.ended())
	begun := len(n.calls())
	unready.Store(time.Now().UnixNano())
	open()
	<-done
	g.waitEnd(t)
	require.NoError(t, g.err)
	require.Len(t, n.calls(), begun, "nothing began after it had closed its doors")
	require.Greater(t, last.Load(), unready.Load())
}

// Two gateways at one bus have one set of nodes: added at one, it is used at the other; removed there, it is gone
// here, and so it is after restarts, also for a node that is configured.
func TestGatewaysOfOneBusAgreeOnTheNodes(t *testing.T) {
	beside(t)
	bus := startGatewayBus(t)
	a, b := newFakeNode(t, "a"), newFakeNode(t, "b")
	one := newGateway(t, "one", []string{a.url()}, bus...)
	two := newGateway(t, "two", []string{a.url()}, bus...)
	one.start(t)
	two.up(t)
	one.waitReady(t)
	agree := func(want ...string) {
		t.Helper()
		slices.Sort(want)
		for _, g := range []*gateway{one, two} {
			eventually(t, 10*time.Second, func() bool {
				list := nodesOf(t, g)
				slices.Sort(list)
				return slices.Equal(want, list)
			}, "%s has %v, it has %v", g.name, want, nodesOf(t, g))
		}
	}
	require.Equal(t, http.StatusOK, one.change(t, http.MethodPost, b.url()).status)
	agree(a.url(), b.url())
	require.Equal(t, http.StatusOK, two.change(t, http.MethodDelete, a.url()).status)
	agree(b.url())
	for i := range 20 {
		s := ask(t.Context(), one.rpc, method(i, "eth_gasPrice", fmt.Sprint(i)))
		require.Equal(t, b.addr, s.header.Get("X-LB-Node"), "%s", s)
	}
	two.stop(t)
	one.stop(t)
	two.start(t)
	one.up(t)
	two.waitReady(t)
	agree(b.url())
	require.Equal(t, http.StatusOK, one.change(t, http.MethodPost, a.url()).status)
	agree(a.url(), b.url())
}
