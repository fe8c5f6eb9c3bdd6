//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// simulation is what a relay sends.
const simulation = `{"jsonrpc":"2.0","id":1,"method":"eth_callBundle","params":["x"]}`

// The assertions that prio-load-balancer's own tests make of its set of nodes, and a restart.
func TestGatewayNodesAreListedAddedRemovedAndKept(t *testing.T) {
	n := newFakeNode(t, "a")
	g := newGateway(t, "gateway", nil)
	g.open(t)
	_, list := get(g.prio + "/nodes")
	require.Equal(t, "[]\n", list)
	s := ask(t.Context(), g.prio, simulation)
	require.Equal(t, http.StatusInternalServerError, s.status, "%s", s)
	require.Equal(t, "no nodes available\n", s.body)

	for range 2 { // twice is once
		s = g.change(t, http.MethodPost, n.url())
		require.Equal(t, http.StatusOK, s.status, "%s", s)
		require.Empty(t, s.body)
		require.Equal(t, []string{n.url()}, nodesOf(t, g))
	}
	s = g.change(t, http.MethodDelete, "http://127.0.0.1:1")
	require.Equal(t, http.StatusBadRequest, s.status)
	require.Equal(t, "node not found\n", s.body)
	bad := newFakeNode(t, "bad")
	bad.set(func(n *fakeNode) { n.status, n.body = 479, "error\n" })
	for uri, why := range map[string]string{"http://" + freeAddr(t): "", bad.url(): "479"} {
		s = g.change(t, http.MethodPost, uri)
		require.Equal(t, http.StatusBadRequest, s.status, "%s", s)
		require.Contains(t, s.body, "AddNode failed: ")
		require.Contains(t, s.body, why)
	}
	require.Equal(t, []string{n.url()}, nodesOf(t, g))
	require.Equal(t, http.StatusOK, ask(t.Context(), g.prio, simulation).status)

	g.stop(t)
	g.up(t)
	require.Equal(t, []string{n.url()}, nodesOf(t, g), "the set outlives the process")
	s = g.change(t, http.MethodDelete, n.url())
	require.Equal(t, http.StatusOK, s.status, "%s", s)
	require.Empty(t, nodesOf(t, g))
	require.Equal(t, "no nodes available\n", ask(t.Context(), g.prio, simulation).body)
}

// Bodies are opaque in both directions, statuses and errors are the node's, and a client's farewell reaches it.
func TestGatewayPassesOnWhateverItIs(t *testing.T) {
	answered := []byte(`{"jsonrpc":"2.0","id":1,"result":"x"}` + "\n") // by the node to simulation, to the last byte
	n := newFakeNode(t, "a")
	g := startGateway(t, []string{n.url() + "?_workers=4"})
	for _, body := range []string{"foo", "", "[]", " {\"a\" : 1}\n", simulation} {
		for _, path := range []string{"", "/", "/sim"} {
			s := ask(t.Context(), g.prio+path, body)
			require.Equal(t, http.StatusOK, s.status, "%s", s)
			if body != simulation {
				require.Equal(t, body, s.body)
			} else {
				require.Equal(t, answered, []byte(s.body))
			}
			for _, h := range []string{"QueueDurationUs", "SimDurationUs", "TotalDurationUs", "QueueSizeStart", "QueueSizeEnd"} {
				require.NotEmpty(t, s.header.Get("X-PrioLB-"+h), h)
			}
		}
	}
	s := ask(t.Context(), g.prio, "", "Content-Type", "application/x-www-form-urlencoded")
	require.Equal(t, http.StatusOK, s.status, "%s", s)

	for status, want := range map[int]int{http.StatusAccepted: http.StatusOK, 479: 479, http.StatusServiceUnavailable: http.StatusServiceUnavailable} {
		n.set(func(n *fakeNode) { n.status, n.body = status, "error\n" })
		s = ask(t.Context(), g.prio, simulation)
		require.Equal(t, want, s.status, "%s", s)
		require.Equal(t, "error\n", s.body)
	}
	n.set(func(n *fakeNode) { n.status = 0 })
	eventually(t, 10*time.Second, func() bool { return ask(t.Context(), g.prio, simulation).status == http.StatusOK }, "it is back")

	open := n.shut()
	defer open()
	ctx, cancel := context.WithCancel(t.Context())
	go ask(ctx, g.prio, simulation)
	eventually(t, 5*time.Second, func() bool { return n.busyNow() == 1 }, "the node has it")
	left := time.Now()
	cancel()
	eventually(t, 5*time.Second, func() bool { return n.busyNow() == 0 }, "the node hears that the client left")
	require.Less(t, time.Since(left), time.Second)

	n.set(func(n *fakeNode) { n.peak = 0 })
	var all []<-chan said
	for range 12 {
		all = append(all, asking(t, g.prio, simulation))
	}
	eventually(t, 5*time.Second, func() bool { return n.busyNow() == 4 && g.waiting(t) == 8 }, "four at the node, eight wait")
	open()
	for _, c := range all {
		require.Equal(t, http.StatusOK, (<-c).status)
	}
	require.Equal(t, 4, n.peakEver())
}

func (n *fakeNode) busyNow() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.busy
}

func (n *fakeNode) peakEver() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.peak
}

// served queues five fast-track, four high and three low calls while the only worker is busy with another, and
// returns the order in which the node gets them.
func served(t *testing.T, args ...string) string {
	t.Helper()
	n := newFakeNode(t, "a")
	g := startGateway(t, []string{n.url() + "?_workers=1"}, args...)
	open := n.shut()
	defer open()
	all := []<-chan said{asking(t, g.prio, "busy")}
	eventually(t, 5*time.Second, func() bool { return n.busyNow() == 1 }, "the worker is busy")
	for i := range 5 {
		for _, c := range []struct {
			name, header string
			most         int
		}{{"L", "X-None", 3}, {"H", "X-High-Priority", 4}, {"F", "X-Fast-Track", 5}} {
			if i < c.most {
				all = append(all, asking(t, g.prio, c.name, c.header, "true"))
			}
		}
		eventually(t, 5*time.Second, func() bool { return g.waiting(t) == len(all)-1 }, "%d wait", len(all)-1)
	}
	open()
	for _, c := range all {
		s := <-c
		require.Equal(t, http.StatusOK, s.status, "%s", s)
	}
	g.stop(t)
	return strings.Join(n.calls()[1:], "")
}

func TestGatewayServesClassesInTheOrderOfPrioLoadBalancer(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"--gateway.queues.fast_per_high=1", "FHFHFHFHFLLL"},
		{"--gateway.queues.fast_per_high=2", "FFHFFHFHHLLL"},
		{"--gateway.queues.fast_per_high=0", "HHHHFFFFFLLL"},
		{"--gateway.queues.drain_fast", "FFFFFHHHHLLL"},
	} {
		require.Equal(t, tc.want, served(t, tc.args), tc.args)
	}
}

// A dead node at the start is a node that is unhealthy: nothing crashes, the other one serves, and it serves when it is
// there.
func TestGatewayStartsWithADeadNode(t *testing.T) {
	a, b := newFakeNode(t, "a"), newFakeNode(t, "b")
	b.kill()
	g := startGateway(t, []string{a.url(), b.url()})
	require.Len(t, nodesOf(t, g), 2)
	for i := range 50 {
		s := ask(t.Context(), g.prio, simulation)
		require.Equal(t, http.StatusOK, s.status, "call %d: %s", i, s)
	}
	a.kill()
	s := ask(t.Context(), g.prio, simulation)
	require.Equal(t, http.StatusInternalServerError, s.status, "%s", s)
	require.NotContains(t, s.body, "{", "an error of ours is never JSON")
	b.start(t)
	eventually(t, 10*time.Second, func() bool { return ask(t.Context(), g.prio, simulation).status == http.StatusOK }, "the other one serves")
	require.NotZero(t, b.count("eth_callBundle"))
}

// Nobody waits for a node that gives no places longer than dispatch_timeout, nor for a busy one longer than the queue's
// timeout, however many wait: prio-load-balancer hangs, or lets one after the other wait.
func TestGatewayNeverHangsWithoutAWorker(t *testing.T) {
	n := newFakeNode(t, "a")
	g := startGateway(t, []string{n.url() + "?_workers=0"}, "--gateway.queues.dispatch_timeout=1s", "--gateway.queues.timeout=3s")
	refusedTogether(t, g, "node timeout\n", "node_timeout", time.Second)
	g.stop(t)

	g = startGateway(t, []string{n.url() + "?_workers=1"}, "--gateway.queues.timeout=1s")
	open := n.shut()
	busy := asking(t, g.prio, "busy")
	eventually(t, 5*time.Second, func() bool { return n.busyNow() == 1 }, "the worker is busy")
	refusedTogether(t, g, "request timeout hit before processing\n", "queue_timeout", time.Second)
	open()
	require.Equal(t, http.StatusOK, (<-busy).status)
}

// refusedTogether sends a number of calls and requires of each the same refusal after the same time.
func refusedTogether(t *testing.T, g *gateway, text, reason string, after time.Duration) {
	t.Helper()
	var all []<-chan said
	for i := range 40 {
		all = append(all, asking(t, g.prio, fmt.Sprint(i)))
	}
	for _, c := range all {
		s := <-c
		require.Equal(t, http.StatusInternalServerError, s.status, "%s", s)
		require.Equal(t, text, s.body)
		require.Equal(t, reason, s.header.Get("X-LB-Error"))
		require.GreaterOrEqual(t, s.took, after-100*time.Millisecond, "%s", s)
		require.Less(t, s.took, after+2*time.Second, "%s", s)
	}
	require.Zero(t, g.waiting(t), "the queue is empty afterwards")
}

// Each class has its own cap.
func TestGatewayFastTrackIsNotRefusedByAFullLowQueue(t *testing.T) {
	n := newFakeNode(t, "a")
	g := startGateway(t, []string{n.url() + "?_workers=1"}, "--gateway.queues.low_max=1")
	open := n.shut()
	defer open()
	all := []<-chan said{asking(t, g.prio, "busy")}
	eventually(t, 5*time.Second, func() bool { return n.busyNow() == 1 }, "the worker is busy")
	all = append(all, asking(t, g.prio, "low"))
	eventually(t, 5*time.Second, func() bool { return g.waiting(t) == 1 }, "one waits")
	s := ask(t.Context(), g.prio, "low")
	require.Equal(t, http.StatusInternalServerError, s.status, "%s", s)
	require.Equal(t, "queue full\n", s.body)
	require.Equal(t, "queue_full", s.header.Get("X-LB-Error"))
	all = append(all, asking(t, g.prio, "fast", "X-Fast-Track", "true"), asking(t, g.prio, "high", "high_prio", "true"))
	eventually(t, 5*time.Second, func() bool { return g.waiting(t) == 3 }, "they wait as well")
	open()
	for _, c := range all {
		require.Equal(t, http.StatusOK, (<-c).status)
	}
	require.Equal(t, []string{"busy", "fast", "high", "low"}, n.calls())
}
