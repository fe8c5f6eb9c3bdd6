package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/doortest"
	"millrace/internal/rpcapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// node is a Caller whose answers a test chooses, with what it got.
type node struct {
	mu     sync.Mutex
	got    []*rpcapi.Call
	answer func(ctx context.Context, c *rpcapi.Call) (*rpcapi.Answer, error)
}

func (n *node) Call(ctx context.Context, c *rpcapi.Call) (*rpcapi.Answer, error) {
	n.mu.Lock()
	own := *c // it is the door's again afterwards
	own.Body = bytes.Clone(c.Body)
	n.got = append(n.got, &own)
	answer := n.answer
	n.mu.Unlock()
	return answer(ctx, c)
}

func (n *node) set(answer func(ctx context.Context, c *rpcapi.Call) (*rpcapi.Answer, error)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answer = answer
}

func (n *node) calls() []*rpcapi.Call {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.got)
}

// says makes the node answer every call so.
func (n *node) says(body string) {
	n.set(func(context.Context, *rpcapi.Call) (*rpcapi.Answer, error) { return answered(body), nil })
}

func (n *node) fails(err error) {
	n.set(func(context.Context, *rpcapi.Call) (*rpcapi.Answer, error) { return nil, err })
}

// echoes makes the node answer with the call's own id and the result given.
func (n *node) echoes(result string) {
	n.set(func(_ context.Context, c *rpcapi.Call) (*rpcapi.Answer, error) {
		return answered(under(c, result)), nil
	})
}

// under is an answer under the id of a call.
func under(c *rpcapi.Call, result string) string {
	_, rest, _ := strings.Cut(string(c.Body), `"id":`)
	id, _, _ := strings.Cut(rest, ",")
	return `{"jsonrpc":"2.0","id":` + id + `,"result":` + result + "}\n"
}

func answered(body string) *rpcapi.Answer {
	return &rpcapi.Answer{
		Status: 200, Body: []byte(body), Node: theNode, Tries: 2, Height: 77,
		Queued: 3 * time.Millisecond, Served: 5 * time.Millisecond, QueueStart: 4, QueueEnd: 1,
	}
}

var theNode = &rpcapi.Node{URI: "http://user:secret@node.example:8545/?_workers=4", Label: "node.example:8545", Tag: 0xabcd1234}

// set is a NodeSet in memory.
type set struct {
	mu   sync.Mutex
	uris []string
}

func (s *set) List() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.uris)
}

func (s *set) Add(_ context.Context, uri string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.Contains(uri, "dead") {
		return errors.New("AddNode failed: connection refused")
	}
	if !slices.Contains(s.uris, uri) {
		s.uris = append(s.uris, uri)
	}
	return nil
}

func (s *set) Remove(_ context.Context, uri string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.uris, uri)
	if i < 0 {
		return errors.New("node not found")
	}
	s.uris = slices.Delete(s.uris, i, i+1)
	return nil
}

// limits refuse a method.
type limits struct {
	method string

	mu  sync.Mutex
	saw []string // ip, key and method of each call
}

func (l *limits) Allow(ip netip.Addr, key, method string, _ int) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.saw = append(l.saw, ip.String()+" "+key+" "+method)
	return 1500 * time.Millisecond, method != l.method
}

// front is a door that runs, with what is behind it and a client.
type front struct {
	*Door
	t      testing.TB
	node   *node
	ports  Ports
	log    *doortest.Log
	reg    *prometheus.Registry
	client *http.Client
	stop   func() error
}

// made is a door that does not run.
func made(tb testing.TB, dialect Dialect, changes ...func(*Config, *Ports)) *front {
	tb.Helper()
	cfg := DefaultConfig(dialect)
	cfg.Listen, cfg.DrainDelay = "127.0.0.1:0", 0
	f := &front{t: tb, node: &node{}, log: &doortest.Log{}, reg: prometheus.NewRegistry()}
	f.node.says(`{"jsonrpc":"2.0","id":1,"result":"0x1"}` + "\n")
	f.ports = Ports{Caller: f.node, Nodes: &set{}}
	for _, change := range changes {
		change(&cfg, &f.ports)
	}
	var err error
	f.Door, err = New(cfg, f.ports, f.log.Logger(), f.reg)
	require.NoError(tb, err)
	f.client = &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}}
	return f
}

// open runs a door until the test ends.
func open(tb testing.TB, dialect Dialect, changes ...func(*Config, *Ports)) *front {
	tb.Helper()
	return made(tb, dialect, changes...).run()
}

func (f *front) run() *front {
	f.t.Helper()
	f.stop = doortest.Run(f.t, f)
	f.t.Cleanup(f.client.CloseIdleConnections)
	return f
}

// settled waits until nothing is in flight: the client has its answer a moment before.
func (f *front) settled() {
	f.t.Helper()
	require.Eventually(f.t, func() bool { return f.budget.inUse.Load() == 0 && f.inflight.Load() == 0 }, patience, time.Millisecond)
}

// said is an HTTP answer, read.
type said struct {
	status int
	body   string
	header http.Header
}

// try makes a request; headers are "Name: value".
func (f *front) try(ctx context.Context, method, path string, body io.Reader, headers ...string) (said, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+f.Addr().String()+path, body)
	if err != nil {
		return said{}, err
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header[name] = append(req.Header[name], value)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return said{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return said{resp.StatusCode, string(b), resp.Header}, err
}

func (f *front) post(path, body string, headers ...string) said {
	f.t.Helper()
	s, err := f.try(f.t.Context(), http.MethodPost, path, strings.NewReader(body), headers...)
	require.NoError(f.t, err)
	return s
}

// dial opens a plain connection to the door.
func (f *front) dial() net.Conn {
	f.t.Helper()
	return doortest.Dial(f.t, f)
}

func request(id, method, params string) string {
	return `{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `","params":[` + params + `]}`
}
