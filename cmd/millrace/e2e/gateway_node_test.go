//go:build e2e && linux

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fault is what is wrong with a fake node.
type fault int

const (
	faultNone  fault = iota + 1
	faultHang        // takes calls and says nothing until the caller gives up
	faultFail        // answers with status 500
	faultReset       // cuts the connection when it has read a call
)

// fakeNode is an execution node over real HTTP: a chain whose head the test moves, a service time, faults, and a
// record of what it was asked. Health checks meet its faults, but are neither delayed nor recorded.
type fakeNode struct {
	name, addr string
	srv        *http.Server

	mu         sync.Mutex
	fault      fault
	service    time.Duration
	gate       chan struct{} // calls wait until it is closed; nil: they don't
	status     int           // with body, the answer to every call, checks included; zero: none
	body       string
	head       uint64
	busy, peak int
	gone       int // calls whose caller left before the answer
	asked      []string
	filters    int
	known      map[string]bool // transactions
	results    map[string]string
}

// newFakeNode starts a node that knows 100 blocks.
func newFakeNode(t *testing.T, name string) *fakeNode {
	t.Helper()
	n := &fakeNode{name: name, fault: faultNone, head: 100, known: map[string]bool{}, results: map[string]string{}}
	n.addr = freeAddr(t)
	n.start(t)
	t.Cleanup(n.kill)
	return n
}

// start listens, on the same address after a kill.
func (n *fakeNode) start(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("tcp", n.addr)
	require.NoError(t, err)
	n.srv = &http.Server{Handler: n, ReadHeaderTimeout: 10 * time.Second}
	go func(s *http.Server) { _ = s.Serve(ln) }(n.srv)
}

// kill cuts all connections and stops listening.
func (n *fakeNode) kill() { _ = n.srv.Close() }

func (n *fakeNode) url() string { return "http://" + n.addr }

// set changes the node under its lock.
func (n *fakeNode) set(change func(*fakeNode)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n)
}

// shut has calls wait, until the function that it returns is called.
func (n *fakeNode) shut() (open func()) {
	gate := make(chan struct{})
	n.set(func(n *fakeNode) { n.gate = gate })
	return sync.OnceFunc(func() {
		n.set(func(n *fakeNode) { n.gate = nil })
		close(gate)
	})
}

// calls are the bodies that it was asked, in order.
func (n *fakeNode) calls() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.asked)
}

// count is how many calls contain text.
func (n *fakeNode) count(text string) (c int) {
	for _, body := range n.calls() {
		if strings.Contains(body, text) {
			c++
		}
	}
	return c
}

type nodeCall struct {
	ID     json.RawMessage   `json:"id"`
	Method string            `json:"method"`
	Params []json.RawMessage `json:"params"`
}

// ServeHTTP answers one call, or a batch; what is no JSON gets its own bytes back.
func (n *fakeNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	calls, batch := readCalls(body)
	check := len(calls) > 0 && !slices.ContainsFunc(calls, func(c nodeCall) bool { return !isCheck(c.Method) })
	if !check {
		leave := n.enter(string(body))
		defer leave()
	}
	if !n.wait(r, check) {
		panic(http.ErrAbortHandler)
	}
	n.mu.Lock()
	status, text := n.status, n.body
	if n.fault == faultFail {
		status, text = http.StatusInternalServerError, "broken\n"
	}
	n.mu.Unlock()
	switch {
	case status != 0:
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	case len(calls) == 0:
		_, _ = w.Write(body)
	default:
		_, _ = io.WriteString(w, n.answers(calls, batch))
	}
}

// readCalls reads a call or a batch; none: it is something else.
func readCalls(body []byte) (calls []nodeCall, batch bool) {
	if json.Unmarshal(body, &calls) == nil {
		return calls, true
	}
	var one nodeCall
	if json.Unmarshal(body, &one) != nil || one.Method == "" {
		return nil, false
	}
	return []nodeCall{one}, false
}

func isCheck(method string) bool {
	return slices.Contains([]string{"eth_chainId", "eth_getBlockByNumber", "eth_getBlockByHash", "eth_syncing", "net_version"}, method)
}

// enter records a call and counts how many are here at a time.
func (n *fakeNode) enter(body string) (leave func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, body)
	n.busy++
	n.peak = max(n.peak, n.busy)
	return func() { n.set(func(n *fakeNode) { n.busy-- }) }
}

// wait is the service time, or what is wrong; false: there is no answer.
func (n *fakeNode) wait(r *http.Request, check bool) bool {
	n.mu.Lock()
	fault, gate, service := n.fault, n.gate, time.After(n.service)
	n.mu.Unlock()
	switch {
	case fault == faultReset:
		return false
	case fault == faultHang:
		gate, service = make(chan struct{}), nil
	case check:
		return true
	}
	if gate == nil {
		closed := make(chan struct{})
		close(closed)
		gate = closed
	} else if fault != faultHang {
		service = nil
	}
	for gate != nil || service != nil {
		select {
		case <-gate:
			gate = nil
		case <-service:
			service = nil
		case <-r.Context().Done():
			if !check {
				n.set(func(n *fakeNode) { n.gone++ })
			}
			return false
		}
	}
	return true
}

func (n *fakeNode) answers(calls []nodeCall, batch bool) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]string, len(calls))
	for i, c := range calls {
		result, fail := n.answer(c)
		member := `"result":` + result
		if fail != "" {
			member = fmt.Sprintf(`"error":{"code":-32000,"message":%q}`, fail)
		}
		out[i] = fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,%s}`, c.ID, member)
	}
	if batch {
		return "[" + strings.Join(out, ",") + "]\n"
	}
	return out[0] + "\n"
}

// answer is what the node says to one call: its first parameter, unless there is more to it.
func (n *fakeNode) answer(c nodeCall) (result, fail string) {
	if r, ok := n.results[c.Method]; ok {
		return r, ""
	}
	first := `"` + n.name + `"`
	if len(c.Params) > 0 {
		first = string(c.Params[0])
	}
	switch c.Method {
	case "eth_chainId":
		return `"0x1"`, ""
	case "net_version":
		return `"1"`, ""
	case "eth_syncing":
		return "false", ""
	case "eth_getBlockByNumber":
		number := n.head
		if first == `"finalized"` {
			number -= 64
		}
		return header(number), ""
	case "eth_getBlockByHash":
		number, _ := strconv.ParseUint(strings.TrimPrefix(strings.Trim(first, `"`), "0x"), 16, 64)
		return header(number), ""
	case "eth_newFilter", "eth_newBlockFilter":
		n.filters++
		return fmt.Sprintf(`"0x%x"`, n.filters), ""
	case "eth_getFilterChanges":
		return fmt.Sprintf(`[%q,%s]`, n.name, first), ""
	case "eth_sendRawTransaction":
		if n.known[first] {
			return "", "already known"
		}
		n.known[first] = true
		return `"0x` + strings.Repeat("ab", 32) + `"`, ""
	}
	return first, ""
}

// header is a block, whose hash is its number.
func header(number uint64) string {
	return fmt.Sprintf(`{"number":"0x%x","hash":"0x%064x","parentHash":"0x%064x","timestamp":"0x%x"}`, number, number, number-1, 1700000000+12*number)
}
