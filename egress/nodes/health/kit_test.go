package health

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

// peer is a node as it could be; everything of it may be changed while it is asked.
type peer struct {
	mu        sync.Mutex
	chain     uint64
	number    uint64
	fork      string // changes hashes
	finalized uint64
	at        time.Time
	syncing   bool
	down      bool
	hangs     bool
	status    int    // of every answer; 0: 200
	raw       string // answers everything
	noBatch   bool
	// shortBatch: of a batch only the first is answered, with an error.
	shortBatch bool
	code       int // error of every method
	asked      int
	batches    int
}

func (p *peer) set(change func(*peer)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *peer) seen() (asked, batches int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked, p.batches
}

// mend makes it well again.
func (p *peer) mend() {
	p.set(func(p *peer) {
		p.chain, p.number, p.at, p.syncing, p.down, p.hangs = 1, 100, time.Time{}, false, false, false
		p.status, p.raw, p.code = 0, "", 0
	})
}

func hashOf(number uint64, fork string) [32]byte {
	return sha256.Sum256([]byte(strconv.FormatUint(number, 10) + fork))
}

func (p *peer) answer(ctx context.Context, body []byte) (int, []byte, error) {
	p.mu.Lock()
	p.asked++
	isBatch := bytes.HasPrefix(body, []byte("["))
	if isBatch {
		p.batches++
	}
	hangs, down := p.hangs, p.down
	p.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return 0, nil, ctx.Err()
	}
	if down {
		return 0, nil, errors.New("connection refused")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	status := http.StatusOK
	if p.status != 0 {
		status = p.status
	}
	if p.raw != "" || p.status >= 400 {
		return status, []byte(p.raw), nil
	}
	if !isBatch {
		return status, p.one(body), nil
	}
	if p.noBatch {
		return http.StatusBadRequest, []byte(`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no batches"}}`), nil
	}
	if p.shortBatch {
		return status, []byte(`[{"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"batch too large"}}]`), nil
	}
	var all []json.RawMessage
	if err := json.Unmarshal(body, &all); err != nil {
		return 0, nil, err
	}
	var replies [][]byte
	for i := range all { // last first: the order of answers is free
		replies = append(replies, p.one(all[len(all)-1-i]))
	}
	return status, append(append([]byte("["), bytes.Join(replies, []byte(","))...), ']'), nil
}

func (p *peer) one(body []byte) []byte {
	var q struct {
		ID     json.RawMessage   `json:"id"`
		Method string            `json:"method"`
		Params []json.RawMessage `json:"params"`
	}
	if err := json.Unmarshal(body, &q); err != nil {
		return []byte(`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}`)
	}
	result := ""
	switch {
	case p.code != 0:
		return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":"the method is odd"}}`, q.ID, p.code)
	case q.Method == "eth_chainId":
		result = fmt.Sprintf(`"0x%x"`, p.chain)
	case q.Method == "eth_getBlockByNumber" && string(q.Params[0]) == `"finalized"`:
		if p.finalized == 0 {
			return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"error":{"code":-39001,"message":"Unknown block"}}`, q.ID)
		}
		result = p.block(p.finalized)
	case q.Method == "eth_getBlockByNumber":
		result = p.block(p.number)
	case q.Method == "eth_syncing" && p.syncing:
		result = `{"currentBlock":"0x1","highestBlock":"0x2"}`
	case q.Method == "eth_syncing":
		result = "false"
	default:
		result = `"1"`
	}
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":%s}`, q.ID, result)
}

func (p *peer) block(number uint64) string {
	at := p.at
	if at.IsZero() {
		at = time.Now()
	}
	return fmt.Sprintf(`{"number":"0x%x","hash":"0x%x","timestamp":"0x%x","transactions":["0x00"]}`,
		number, hashOf(number, p.fork), at.Unix())
}

// ServeHTTP makes it a real node, as strict as geth.
func (p *peer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Content-Type") != "application/json" {
		w.WriteHeader(http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	status, answer, err := p.answer(r.Context(), body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
	_, _ = w.Write(answer)
}

// rig is a monitor over peers, and what it told.
type rig struct {
	*Monitor
	reg   *prometheus.Registry
	logs  bytes.Buffer
	peers map[rpcapi.Tag]*peer

	mu       sync.Mutex
	verdicts map[rpcapi.Tag]Verdict
	told     int
}

func parse(tb testing.TB, uri string) *rpcapi.Node {
	tb.Helper()
	n, err := rpcapi.ParseNode(uri)
	require.NoError(tb, err)
	return n
}

// newRig has n peers at block 100 of chain 1.
func newRig(tb testing.TB, n int, change func(*Config)) (*rig, []*rpcapi.Node) {
	tb.Helper()
	cfg := DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	r := &rig{reg: prometheus.NewRegistry(), peers: map[rpcapi.Tag]*peer{}, verdicts: map[rpcapi.Tag]Verdict{}}
	var nodes []*rpcapi.Node
	for i := range n {
		node := parse(tb, fmt.Sprintf("http://n%d:8545", i))
		r.peers[node.Tag] = &peer{chain: 1, number: 100}
		nodes = append(nodes, node)
	}
	ask := func(ctx context.Context, n *rpcapi.Node, body []byte) (int, []byte, error) {
		return r.peers[n.Tag].answer(ctx, body)
	}
	r.Monitor = newMonitor(tb, cfg, ask, r)
	return r, nodes
}

func newMonitor(tb testing.TB, cfg Config, ask Ask, r *rig) *Monitor {
	tb.Helper()
	m, err := New(cfg, ask, r.hear, slog.New(slog.NewTextHandler(&r.logs, nil)), r.reg)
	require.NoError(tb, err)
	return m
}

func (r *rig) hear(tag rpcapi.Tag, v Verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.verdicts[tag] = v
	r.told++
}

func (r *rig) verdict(n *rpcapi.Node) Verdict {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.verdicts[n.Tag]
}

func (r *rig) tellings() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.told
}

func (r *rig) status(n *rpcapi.Node) Status {
	for _, s := range r.Status() {
		if s.Node.Tag == n.Tag {
			return s
		}
	}
	return Status{}
}

func (r *rig) peer(n *rpcapi.Node) *peer { return r.peers[n.Tag] }

// start runs the monitor until the test ends.
func (r *rig) start(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		require.NoError(tb, <-done)
	})
}

// serve makes a peer a server.
func serve(tb testing.TB, p *peer) *rpcapi.Node {
	tb.Helper()
	s := httptest.NewServer(p)
	tb.Cleanup(s.Close)
	return parse(tb, s.URL)
}

// httpAsk asks real servers.
func httpAsk(tb testing.TB) Ask {
	tb.Helper()
	client := &http.Client{Transport: &http.Transport{}}
	tb.Cleanup(client.CloseIdleConnections)
	return func(ctx context.Context, n *rpcapi.Node, body []byte) (int, []byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.URL.String(), bytes.NewReader(body))
		if err != nil {
			return 0, nil, err
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := client.Do(req)
		if err != nil {
			return 0, nil, err
		}
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		return res.StatusCode, answer, err
	}
}

func (r *rig) nodesOf(tb testing.TB, uris ...string) []*rpcapi.Node {
	tb.Helper()
	var nodes []*rpcapi.Node
	for _, uri := range uris {
		nodes = append(nodes, parse(tb, uri))
	}
	return nodes
}

// exposition is all metrics as they are scraped.
func exposition(tb testing.TB, r *rig) string {
	tb.Helper()
	families, err := r.reg.Gather()
	require.NoError(tb, err)
	var b bytes.Buffer
	for _, f := range families {
		_, err := expfmt.MetricFamilyToText(&b, f)
		require.NoError(tb, err)
	}
	return b.String()
}
