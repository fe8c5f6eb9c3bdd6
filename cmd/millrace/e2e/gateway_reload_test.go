//go:build e2e && linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// rewrite puts another configuration in the file's place, and says so to the process.
func rewrite(t *testing.T, g *gateway, file, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(file+".new", []byte(text), 0o600))
	require.NoError(t, os.Rename(file+".new", file))
	g.signal(t, syscall.SIGHUP)
}

// logged counts lines of the log with a message.
func (p *process) logged(t *testing.T, message string) int {
	t.Helper()
	b, err := os.ReadFile(p.log)
	require.NoError(t, err)
	return strings.Count(string(b), `"msg":"`+message+`"`)
}

// socketCall makes one call over a WebSocket and returns the answer; what a subscription says in between is passed over.
func socketCall(t *testing.T, c *websocket.Conn, body string) (r rpcReply) {
	t.Helper()
	require.NoError(t, c.Write(t.Context(), websocket.MessageText, []byte(body)))
	for r.ID == nil {
		require.NoError(t, json.Unmarshal(heard(t, c), &r))
	}
	return r
}

// heard is the next message of a WebSocket.
func heard(t *testing.T, c *websocket.Conn) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, b, err := c.Read(ctx)
	require.NoError(t, err)
	return b
}

// A reload changes nodes and limits, and neither connections nor what is under way notice; a file with a fault
// changes nothing.
func TestGatewayReloadKeepsConnectionsAndCalls(t *testing.T) {
	a, b := newFakeNode(t, "a"), newFakeNode(t, "b")
	file := filepath.Join(t.TempDir(), "millrace.yaml")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "gateway:\n  nodes:\n    - url: %s\n", a.url()), 0o600))
	g := newGateway(t, "gateway", nil, "--config="+file, "--gateway.subscriptions.poll=100ms")
	g.up(t)
	ws, _, err := websocket.Dial(t.Context(), strings.Replace(g.rpc, "http", "ws", 1), nil)
	require.NoError(t, err)
	defer ws.CloseNow()
	require.Nil(t, socketCall(t, ws, method(1, "eth_subscribe", `"newHeads"`)).Error)
	kept := keepAlive(t, g.rpc)
	kept()
	open := a.shut()
	defer open()
	flight := asking(t, g.prio, `"in flight"`)
	eventually(t, 5*time.Second, func() bool { return a.busyNow() == 1 }, "a call is under way")

	rewrite(t, g, file, fmt.Sprintf("gateway:\n  nodes:\n    - url: %s\n  methods:\n    deny: [admin_*]\n  rate_limit:\n    method:\n      eth_gasPrice: 2/m\n", b.url()))
	eventually(t, 10*time.Second, func() bool { return g.logged(t, "reloaded") > 0 }, "it says that it reloaded")
	require.Equal(t, []string{b.url()}, nodesOf(t, g))
	require.Equal(t, b.addr, ask(t.Context(), g.prio, `"new"`).header.Get("X-LB-Node"))
	open()
	s := <-flight
	require.Equal(t, http.StatusOK, s.status, "%s", s)
	require.Equal(t, `"in flight"`, s.body)
	kept()
	require.Equal(t, -32601, socketCall(t, ws, method(2, "admin_peers", "")).Error.Code)
	for i := range 3 {
		r := socketCall(t, ws, method(3, "eth_gasPrice", fmt.Sprint(i)))
		require.Equal(t, i == 2, r.Error != nil, "the third is too many")
	}
	b.set(func(n *fakeNode) { n.head += 2 })
	require.Contains(t, string(heard(t, ws)), `"eth_subscription"`, "the subscription goes on, at the other node")

	for i, bad := range []string{
		"gateway:\n  nodes:\n    - url: ftp://x\n", "gateway:\n  nodse: []\n", "gateway: [\n",
		"gateway:\n  nodes:\n    - url: " + a.url() + "\n  rate_limit:\n    total: many\n",
	} {
		rewrite(t, g, file, bad)
		eventually(t, 10*time.Second, func() bool {
			return g.logged(t, "reload refused, the earlier configuration stays in force") > i
		}, "it refuses %q", bad)
		require.Equal(t, []string{b.url()}, nodesOf(t, g), bad)
		require.Equal(t, -32601, socketCall(t, ws, method(4, "admin_peers", "")).Error.Code, "%s", bad)
	}
	kept()
}

// A reload of queues, places, checks and times finds calls that wait and run, and a node that is known to be dead: all
// of it stays.
func TestGatewayReloadKeepsQueuesAndHealth(t *testing.T) {
	a, dead := newFakeNode(t, "a"), newFakeNode(t, "dead")
	dead.kill()
	file := filepath.Join(t.TempDir(), "millrace.yaml")
	nodes := fmt.Sprintf("gateway:\n  node_urls: ['%s', '%s']\n", a.url(), dead.url())
	require.NoError(t, os.WriteFile(file, []byte(nodes+"  node_workers: 3\n"), 0o600))
	g := newGateway(t, "gateway", nil, "--config="+file)
	g.up(t)
	health := func(n *fakeNode) int { return g.gauge(t, `millrace_gateway_node_healthy{node="`+n.addr+`"}`) }
	eventually(t, 10*time.Second, func() bool { return health(a) == 1 && health(dead) == 0 }, "the dead node is known")
	open := a.shut()
	defer open()
	var all []<-chan said
	for i := range 6 {
		all = append(all, asking(t, g.prio, fmt.Sprintf(`"%d"`, i)))
	}
	eventually(t, 10*time.Second, func() bool { return a.busyNow() == 3 && g.waiting(t) == 3 }, "calls run and wait")

	rewrite(t, g, file, nodes+`  node_workers: 1
  node_timeout: 20s
  max_tries: 1
  hedge_after: 10s
  queues: {low_max: 1, timeout: 20s, fast_per_high: 1, low_every: 3}
  health_check: {fall: 1, check: full}
`)
	eventually(t, 10*time.Second, func() bool { return g.logged(t, "reloaded") > 0 }, "it says that it reloaded")
	require.Zero(t, g.logged(t, "changed keys need a restart"))
	require.Equal(t, 3, a.busyNow(), "no call was cut")
	require.Equal(t, 3, g.waiting(t), "no call left its queue")
	require.Equal(t, 0, health(dead))
	require.Equal(t, 1, health(a))
	full := ask(t.Context(), g.prio, `"one too many"`)
	require.Equal(t, http.StatusInternalServerError, full.status, "%s", full)
	require.Equal(t, "queue full\n", full.body)
	open()
	for i, c := range all {
		s := <-c
		require.Equal(t, http.StatusOK, s.status, "%s", s)
		require.Equal(t, fmt.Sprintf(`"%d"`, i), s.body)
		require.Equal(t, "1", s.header.Get("X-LB-Tries"))
	}
	for i := range 6 {
		require.Equal(t, 1, a.count(fmt.Sprintf(`"%d"`, i)), "each was sent once")
	}
	a.set(func(n *fakeNode) { n.peak = 0 })
	all = all[:0]
	for range 2 {
		all = append(all, asking(t, g.prio, `"after"`))
	}
	for _, c := range all {
		require.Equal(t, http.StatusOK, (<-c).status)
	}
	a.set(func(n *fakeNode) { require.Equal(t, 1, n.peak, "one place is left") })
	dead.start(t)
	eventually(t, 10*time.Second, func() bool { return health(dead) == 1 }, "the new checks find it")
}

// keepAlive returns a function that calls over one connection, and fails the test when that is another one.
func keepAlive(t *testing.T, url string) func() {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	calls := 0
	return func() {
		t.Helper()
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
			require.Equal(t, calls > 0, i.Reused, "a new connection")
		}})
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(method(1, "eth_chainId", "")))
		require.NoError(t, err)
		resp, err := client.Do(req)
		require.NoError(t, err)
		var r rpcReply
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&r))
		require.NoError(t, resp.Body.Close())
		require.Nil(t, r.Error)
		calls++
	}
}
