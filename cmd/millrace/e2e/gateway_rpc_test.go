//go:build e2e && linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// A node that cuts connections is not asked again while there is another: axon-proxy asks it again.
func TestGatewayFailoverReachesAnotherNode(t *testing.T) {
	a, b := newFakeNode(t, "a"), newFakeNode(t, "b")
	g := startGateway(t, []string{a.url(), b.url()}, "--gateway.health_check.check=none")
	a.set(func(n *fakeNode) { n.fault = faultReset })
	twice := 0
	for i := range 40 {
		s := ask(t.Context(), g.rpc+"/any/path", method(i, "eth_getBalance", fmt.Sprintf(`"0x%040x","latest"`, i)))
		require.Nil(t, answered(t, s).Error, "%s", s)
		require.Equal(t, b.addr, s.header.Get("X-LB-Node"))
		if s.header.Get("X-LB-Tries") == "2" {
			twice++
		}
	}
	require.NotZero(t, twice, "a call met the broken node first")
	require.Len(t, a.calls(), twice)
	require.Len(t, b.calls(), 40)
}

// The cache hits, for every shape of parameters, until there is another head; identical calls under way are one.
func TestGatewayCacheHitsAndSharesCalls(t *testing.T) {
	n := newFakeNode(t, "a")
	g := startGateway(t, []string{n.url() + "?_workers=64"}, "--gateway.cache.eth_call", "--gateway.subscriptions.poll=100ms")
	cached := func(name, params, want string) {
		t.Helper()
		s := ask(t.Context(), g.rpc, method(7, name, params))
		require.Equal(t, want, s.header.Get("X-LB-Cache"), "%s", s)
		require.Equal(t, "7", string(answered(t, s).ID))
	}
	eventually(t, 5*time.Second, func() bool {
		s := ask(t.Context(), g.rpc, method(1, "eth_gasPrice", ""))
		return s.header.Get("X-LB-Cache") == "hit"
	}, "the head is known")
	shapes := []string{
		`{"to":"0x00000000000000000000000000000000000000aa","data":"0x01"},"latest"`,
		`{"to":"0x00000000000000000000000000000000000000aa","input":"0x02","maxFeePerGas":"0x1"},{"blockNumber":"0x20"}`,
		`{"to":"0x00000000000000000000000000000000000000aa","input":"0x03"},"latest",{"0x00000000000000000000000000000000000000aa":{"balance":"0x1"}}`,
	}
	for _, params := range shapes {
		cached("eth_call", params, "miss")
		cached("eth_call", params, "hit")
		cached("eth_call", params, "hit")
	}
	require.Equal(t, len(shapes), n.count("eth_call"), "hits ask no node")
	n.set(func(n *fakeNode) { n.head++ })
	eventually(t, 5*time.Second, func() bool {
		s := ask(t.Context(), g.rpc, method(7, "eth_call", shapes[0]))
		return s.header.Get("X-LB-Cache") == "miss"
	}, "a new head ends what depended on the head")
	cached("eth_call", shapes[1], "hit") // of a block that is final

	before := n.count("eth_getCode")
	open := n.shut()
	defer open()
	var all []<-chan said
	for i := range 20 {
		all = append(all, asking(t, g.rpc, method(i, "eth_getCode", `"0x00000000000000000000000000000000000000cc","latest"`)))
	}
	eventually(t, 5*time.Second, func() bool { return n.busyNow() > 0 }, "one is under way")
	nap(t, 300*time.Millisecond) // the others have time to ask for themselves
	open()
	sources := map[string]int{}
	for i, c := range all {
		s := <-c
		require.Equal(t, fmt.Sprint(i), string(answered(t, s).ID))
		sources[s.header.Get("X-LB-Cache")]++
	}
	require.Equal(t, 1, n.count("eth_getCode")-before, "%v", sources)
	require.Equal(t, 1, sources["miss"], "%v", sources)
}

// A batch over HTTP goes to the node several calls at a time; over a WebSocket it is answered as valid JSON.
func TestGatewayBatchesRunInParallelAndAreJSON(t *testing.T) {
	n := newFakeNode(t, "a")
	g := startGateway(t, []string{n.url()})
	n.set(func(n *fakeNode) { n.service = 20 * time.Millisecond })
	const calls = 100
	batch := func(round int) string {
		list := make([]string, calls)
		for i := range list {
			list[i] = method(i, "eth_getBalance", fmt.Sprintf(`"0x%040x","latest"`, calls*round+i))
		}
		return "[" + strings.Join(list, ",") + "]"
	}
	inOrder := func(round int, body string) {
		t.Helper()
		var replies []rpcReply
		require.NoError(t, json.Unmarshal([]byte(body), &replies), body)
		require.Len(t, replies, calls)
		for i, r := range replies {
			require.Equal(t, fmt.Sprint(i), string(r.ID))
			require.Equal(t, fmt.Sprintf(`"0x%040x"`, calls*round+i), string(r.Result))
		}
	}
	best := time.Hour
	for round := range 3 {
		s := ask(t.Context(), g.rpc, batch(round))
		require.NoError(t, s.err)
		inOrder(round, s.body)
		best = min(best, s.took)
	}
	report(t, "batch of 100 over a backend of 20 ms with 8 workers: %s (%s in a row)", best.Round(time.Millisecond), 100*20*time.Millisecond)
	require.LessOrEqual(t, n.peakEver(), 8)
	require.Less(t, best, short(1200*time.Millisecond, 300*time.Millisecond))

	c, _, err := websocket.Dial(t.Context(), strings.Replace(g.rpc, "http", "ws", 1)+"/ws", nil)
	require.NoError(t, err)
	defer c.CloseNow()
	c.SetReadLimit(1 << 20)
	require.NoError(t, c.Write(t.Context(), websocket.MessageText, []byte(batch(3))))
	_, answer, err := c.Read(t.Context())
	require.NoError(t, err)
	inOrder(3, string(answer))
	require.NoError(t, c.Write(t.Context(), websocket.MessageText, []byte(`[`+method(1, "eth_subscribe", `"newHeads"`)+`]`)))
	_, answer, err = c.Read(t.Context())
	require.NoError(t, err)
	require.Contains(t, string(answer), "subscription in batch request is not supported")
}

// A filter's id names its node: it is found after a restart, and is gone with its node.
func TestGatewayFiltersSurviveARestartAndEndWithTheirNode(t *testing.T) {
	a, b := newFakeNode(t, "a"), newFakeNode(t, "b")
	g := startGateway(t, []string{a.url(), b.url()})
	ids := map[string]string{} // to the node's name
	for i := range 20 {
		s := ask(t.Context(), g.rpc, method(i, "eth_newBlockFilter", ""))
		var id string
		require.NoError(t, json.Unmarshal(answered(t, s).Result, &id), "%s", s)
		ids[id] = map[string]string{a.addr: "a", b.addr: "b"}[s.header.Get("X-LB-Node")]
	}
	require.Len(t, ids, 20, "ids of two nodes are never the same")
	polled := func(gone string) {
		t.Helper()
		for id, node := range ids {
			s := ask(t.Context(), g.rpc, method(1, "eth_getFilterChanges", `"`+id+`"`))
			r := answered(t, s)
			if node == gone {
				require.NotNil(t, r.Error, "%s", s)
				require.Equal(t, -32001, r.Error.Code)
				require.Equal(t, "filter id not found", r.Error.Message)
				continue
			}
			var changes []string
			require.NoError(t, json.Unmarshal(r.Result, &changes), "%s", s)
			require.Equal(t, node, changes[0], "the node that has it answers")
			require.Less(t, len(changes[1]), len(id), "under the node's own id")
		}
	}
	polled("")
	g.stop(t)
	g.up(t)
	polled("")
	require.Equal(t, http.StatusOK, g.change(t, http.MethodDelete, a.url()).status)
	polled("a")
}

// What is refused, what is said nothing to, and a transaction that a node has already.
func TestGatewayAnswersAsTheDialectHasIt(t *testing.T) {
	a, b := newFakeNode(t, "a"), newFakeNode(t, "b")
	g := startGateway(t, []string{a.url(), b.url()}, "--gateway.methods.deny=admin_*,eth_sign")
	for body, want := range map[string]string{
		method(1, "admin_peers", ""):             "-32601 method not allowed: admin_peers",
		method(1, "eth_sign", ""):                "-32601 method not allowed: eth_sign",
		method(1, "eth_subscribe", `"newHeads"`): "-32004 subscription over http is not supported",
		"{":                                      "-32700 Parse error",
		`{"jsonrpc":"2.0","id":1}`:               "-32600 Invalid request",
		`[]`:                                     "-32600 Invalid request",
		method(1, "eth_getFilterChanges", `"0x1"`): "-32001 filter id not found",
	} {
		s := ask(t.Context(), g.rpc, body)
		r := answered(t, s)
		require.NotNil(t, r.Error, "%s: %s", body, s)
		require.Equal(t, want, fmt.Sprintf("%d %s", r.Error.Code, r.Error.Message), body)
		require.NotEmpty(t, s.header.Get("X-LB-Error"), body)
	}
	require.Zero(t, a.count("admin_")+b.count("admin_"))
	notification := `{"jsonrpc":"2.0","method":"eth_chainId","params":[]}`
	for _, body := range []string{notification, "[" + notification + "," + notification + "]"} {
		s := ask(t.Context(), g.rpc, body)
		require.Equal(t, http.StatusNoContent, s.status, "%s", s)
		require.Empty(t, s.body)
	}

	// The transaction type, and a hash that is the keccak of its bytes.
	raw := `"0x02f8"`
	for _, n := range []*fakeNode{a, b} {
		n.set(func(n *fakeNode) { n.known[raw] = true })
	}
	s := ask(t.Context(), g.rpc, method(1, "eth_sendRawTransaction", raw))
	r := answered(t, s)
	require.Nil(t, r.Error, "%s", s)
	require.Len(t, string(r.Result), len(`""`)+66)
}
