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
