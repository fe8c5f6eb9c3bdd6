//go:build e2e && linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// gateway is a gateway process and its doors.
type gateway struct {
	*process
	prio, rpc string
}

// newGateway describes a gateway with a door of each dialect; args come last.
func newGateway(t *testing.T, name string, nodes []string, args ...string) *gateway {
	t.Helper()
	prio, rpc := freeAddr(t), freeAddr(t)
	all := []string{
		"--gateway.listen=" + prio, "--gateway.listen_jsonrpc=" + rpc, "--gateway.health_check.interval=500ms",
		"--gateway.node_header=on", "--log.format=json",
	}
	if len(nodes) > 0 {
		all = append(all, "--gateway.node_urls="+strings.Join(nodes, ","))
	}
	return &gateway{newProcess(t, name, "gateway", append(all, args...)...), "http://" + prio, "http://" + rpc}
}

// startGateway starts one and waits until it is ready.
func startGateway(t *testing.T, nodes []string, args ...string) *gateway {
	t.Helper()
	g := newGateway(t, "gateway", nodes, args...)
	g.up(t)
	return g
}

// open starts it and waits until its doors are open, which it may be without being ready.
func (g *gateway) open(t *testing.T) {
	t.Helper()
	g.start(t)
	for _, door := range []string{g.prio, g.rpc} {
		eventually(t, readyTimeout, func() bool { status, _ := get(door + "/"); return status == http.StatusOK }, "the door opens")
	}
}

// gauge is a metric's value; name has its labels.
func (g *gateway) gauge(t *testing.T, name string) int {
	t.Helper()
	status, page := get(g.admin + "/metrics")
	require.Equal(t, http.StatusOK, status, page)
	for line := range strings.Lines(page) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			require.NoError(t, err)
			return int(v)
		}
	}
	require.Failf(t, "no metric", "%s", name)
	return 0
}

// waiting is how many calls are in the queues.
func (g *gateway) waiting(t *testing.T) (n int) {
	t.Helper()
	for _, class := range []string{"fast", "high", "low"} {
		n += g.gauge(t, `millrace_gateway_queue_length{class="`+class+`"}`)
	}
	return n
}

// startGatewayBus starts a bus for gateways, and returns what they need to use it.
func startGatewayBus(t *testing.T, args ...string) []string {
	t.Helper()
	data, addr := t.TempDir(), freeAddr(t)
	newProcess(t, "bus", "bus", append(args, "--nats.listen="+addr, "--nats.store_dir="+filepath.Join(data, "nats"))...).up(t)
	return []string{"--nats.url=nats://" + addr, "--nats.creds=" + filepath.Join(data, "auth", "role.nk")}
}

// caller is the HTTP client of all tests here, with as many connections as anybody wants.
var caller = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 512, IdleConnTimeout: 20 * time.Second}, Timeout: 30 * time.Second}

// said is what a gateway answered.
type said struct {
	status int
	body   string
	header http.Header
	took   time.Duration
	err    error
}

// String is for messages of tests.
func (s said) String() string {
	return fmt.Sprintf("%d %q after %s, X-LB-Error %q: %v", s.status, s.body, s.took, s.header.Get("X-LB-Error"), s.err)
}

// ask posts a body; headers are names and values in turn.
func ask(ctx context.Context, url, body string, headers ...string) (s said) {
	begun := time.Now()
	defer func() { s.took = time.Since(begun) }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return said{err: err}
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return do(req)
}

func do(req *http.Request) said {
	resp, err := caller.Do(req)
	if err != nil {
		return said{err: err}
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(resp.Body)
	return said{status: resp.StatusCode, body: b.String(), header: resp.Header, err: err}
}

// asking asks in the background.
func asking(t *testing.T, url, body string, headers ...string) <-chan said {
	t.Helper()
	c := make(chan said, 1)
	go func() { c <- ask(t.Context(), url, body, headers...) }()
	return c
}

// nodesOf is a gateway's list of nodes.
func nodesOf(t *testing.T, g *gateway) (list []string) {
	t.Helper()
	status, body := get(g.prio + "/nodes")
	require.Equal(t, http.StatusOK, status, body)
	require.NoError(t, json.Unmarshal([]byte(body), &list))
	return list
}

// change adds a node (POST) or removes one (DELETE).
func (g *gateway) change(t *testing.T, method, uri string) said {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, g.prio+"/nodes", strings.NewReader(`{"uri":"`+uri+`"}`))
	require.NoError(t, err)
	return do(req)
}

// method is a call's body; params are without brackets.
func method(id int, name, params string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":[%s]}`, id, name, params)
}

// rpcReply is a JSON-RPC answer.
type rpcReply struct {
	ID     json.RawMessage `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// answered reads an answer of the JSON-RPC door.
func answered(t *testing.T, s said) (r rpcReply) {
	t.Helper()
	require.NoError(t, s.err)
	require.Equal(t, http.StatusOK, s.status, "%s", s)
	require.NoError(t, json.Unmarshal([]byte(s.body), &r), "%s", s)
	return r
}

// crowd has clients call one after the other until next says that it is enough, or the test ends; check sees every
// answer, in the goroutine of who called.
func crowd(t *testing.T, clients int, next func(i int) bool, call func(i int) said, check func(i int, s said)) {
	t.Helper()
	type answer struct {
		i int
		said
	}
	var (
		made    atomic.Int64
		wg      sync.WaitGroup
		answers = make(chan answer, clients)
	)
	for range clients {
		wg.Go(func() {
			for {
				i := int(made.Add(1)) - 1
				if t.Context().Err() != nil || !next(i) {
					return
				}
				if s := call(i); t.Context().Err() == nil {
					answers <- answer{i, s}
				}
			}
		})
	}
	go func() {
		wg.Wait()
		close(answers)
	}()
	for a := range answers {
		check(a.i, a.said)
	}
}

// upTo is a crowd's end after n calls.
func upTo(n int) func(int) bool { return func(i int) bool { return i < n } }
