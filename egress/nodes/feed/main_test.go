package feed

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
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/rpcapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 15 * time.Second

var (
	token = common.HexToAddress("0x00000000000000000000000000000000000000aa")
	topic = common.HexToHash("0x01")
)

// block is one of a test's chain. Its name makes its hash.
type block struct {
	name   string
	number uint64
	hash   common.Hash
	parent common.Hash
	logs   int // of token, with topic
}

func hashOf(name string) common.Hash { return sha256.Sum256([]byte(name)) }

// blocks makes a branch after parent of the names; "name*2" has two logs.
func blocks(parent block, names ...string) (all []block) {
	for _, name := range names {
		b := block{number: parent.number + 1, parent: parent.hash}
		_, _ = fmt.Sscanf(strings.Replace(name, "*", " ", 1), "%s %d", &b.name, &b.logs)
		b.hash = hashOf(b.name)
		all = append(all, b)
		parent = b
	}
	return all
}

var genesis = block{name: "genesis", hash: hashOf("genesis")}

func (b block) bloom() string {
	var bloom types.Bloom
	if b.logs > 0 {
		bloom.Add(token[:])
		bloom.Add(topic[:])
	}
	text, _ := bloom.MarshalText()
	return string(text)
}

func (b block) header() string {
	return fmt.Sprintf(`{"number":"0x%x","hash":"%s","parentHash":"%s","logsBloom":"%s","extraData":"%s"}`,
		b.number, b.hash.Hex(), b.parent.Hex(), b.bloom(), b.name)
}

// full is the block as eth_getBlockBy… has it.
func (b block) full() string {
	return strings.TrimSuffix(b.header(), "}") + `,"size":"0x1","transactions":["0x01"],"uncles":[],"withdrawals":[]}`
}

func (b block) log(i int) string {
	return fmt.Sprintf(`{"address":"0x%x","topics":["%s"],"blockHash":"%s","logIndex":"0x%x","removed":false,"data":"%s"}`,
		token[:], topic.Hex(), b.hash.Hex(), i, b.name)
}

// fakeNode is a node with HTTP and WebSocket, and a chain that a test changes.
type fakeNode struct {
	t    testing.TB
	http *httptest.Server
	node *rpcapi.Node

	mu      sync.Mutex
	head    block
	known   map[common.Hash]block
	conns   map[*websocket.Conn]map[string]string // subscriptions by id: their parameters
	next    int
	silent  bool // announces nothing
	deaf    bool // answers nothing
	healthy bool
	gone    bool
	asked   []string
	subs    int // eth_subscribes ever
	dials   int
	refuse  bool // subscriptions
}

func newNode(tb testing.TB, chain ...block) *fakeNode {
	tb.Helper()
	n := &fakeNode{t: tb, known: map[common.Hash]block{genesis.hash: genesis}, conns: map[*websocket.Conn]map[string]string{}, healthy: true, head: genesis}
	n.http = httptest.NewServer(n)
	tb.Cleanup(n.die)
	var err error
	n.node, err = rpcapi.ParseNode(n.http.URL)
	require.NoError(tb, err)
	n.node.WS, err = url.Parse(strings.Replace(n.http.URL, "http", "ws", 1))
	require.NoError(tb, err)
	n.add(chain...)
	return n
}

// add makes blocks known and the last one the head, and announces each.
func (n *fakeNode) add(chain ...block) {
	for _, b := range chain {
		n.learn(b)
		n.announce(b)
	}
}

// jump makes blocks known and announces the last one only, as geth does for a reorganisation.
func (n *fakeNode) jump(chain ...block) {
	n.learn(chain...)
	n.announce(chain[len(chain)-1])
}

func (n *fakeNode) learn(chain ...block) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, b := range chain {
		n.known[b.hash], n.head = b, b
	}
}

func (n *fakeNode) announce(b block) {
	n.mu.Lock()
	silent := n.silent
	n.mu.Unlock()
	if !silent {
		n.say(`["newHeads"]`, b.header())
	}
}

// say sends a result to all subscriptions with the parameters.
func (n *fakeNode) say(params, result string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for ws, subs := range n.conns {
		for id, p := range subs {
			if p == params {
				_ = ws.Write(context.Background(), websocket.MessageText,
					[]byte(`{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"`+id+`","result":`+result+`}}`))
			}
		}
	}
}

func (n *fakeNode) set(change func(n *fakeNode)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n)
}

// die ends the node and its connections.
func (n *fakeNode) die() {
	n.mu.Lock()
	n.deaf = true
	for ws := range n.conns {
		_ = ws.CloseNow()
	}
	n.mu.Unlock()
	n.http.CloseClientConnections()
	n.http.Close()
}

// subscriptions counts those that are open with the parameters.
func (n *fakeNode) subscriptions(params string) (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, subs := range n.conns {
		for _, p := range subs {
			if p == params {
				count++
			}
		}
	}
	return count
}

func (n *fakeNode) questions(method string) (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.asked {
		if m == method {
			count++
		}
	}
	return count
}

func (n *fakeNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "" {
		n.socket(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	_, _ = w.Write(n.answer(body))
}

type question struct {
	ID     json.RawMessage
	Method string
	Params json.RawMessage
}

func (n *fakeNode) answer(body []byte) []byte {
	var q question
	_ = json.Unmarshal(body, &q)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, q.Method)
	return []byte(`{"jsonrpc":"2.0","id":` + string(q.ID) + `,` + n.result(&q) + `}`)
}

func (n *fakeNode) result(q *question) string {
	var first string
	var args []json.RawMessage
	_ = json.Unmarshal(q.Params, &args)
	_ = json.Unmarshal(args[0], &first)
	switch q.Method {
	case "eth_getBlockByNumber":
		return `"result":` + n.head.full()
	case "eth_getBlockByHash":
		if b, ok := n.known[common.HexToHash(first)]; ok {
			return `"result":` + b.full()
		}
		return `"result":null`
	case "eth_getLogs":
		var f struct{ BlockHash common.Hash }
		_ = json.Unmarshal(args[0], &f)
		b, ok := n.known[f.BlockHash]
		if !ok {
			return `"error":{"code":-32000,"message":"unknown block"}`
		}
		var logs []string
		for i := range b.logs {
			logs = append(logs, b.log(i))
		}
		return `"result":[` + strings.Join(logs, ",") + `]`
	}
	return `"error":{"code":-32601,"message":"?"}`
}

func (n *fakeNode) socket(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer ws.CloseNow()
	n.set(func(n *fakeNode) {
		n.dials++
		n.conns[ws] = map[string]string{}
		if n.deaf {
			_ = ws.CloseNow()
		}
	})
	defer n.set(func(n *fakeNode) { delete(n.conns, ws) })
	for {
		_, b, err := ws.Read(r.Context())
		if err != nil {
			return
		}
		var q question
		_ = json.Unmarshal(b, &q)
		n.mu.Lock()
		answer := `"result":true`
		switch {
		case n.refuse:
			answer = `"error":{"code":-32601,"message":"no"}`
		case q.Method == "eth_subscribe":
			n.next++
			n.subs++
			id := fmt.Sprintf("0x%x", n.next)
			n.conns[ws][id] = string(q.Params)
			answer = `"result":"` + id + `"`
		case q.Method == "eth_unsubscribe":
			var ids []string
			_ = json.Unmarshal(q.Params, &ids)
			delete(n.conns[ws], ids[0])
		}
		_ = ws.Write(r.Context(), websocket.MessageText, []byte(`{"jsonrpc":"2.0","id":`+string(q.ID)+`,`+answer+`}`))
		n.mu.Unlock()
	}
}

// pool is the gateway's nodes: it asks them over HTTP.
type pool struct {
	nodes  []*fakeNode
	client *http.Client

	mu      sync.Mutex
	learned []string
}

func (p *pool) Nodes() (all []State) {
	for _, n := range p.nodes {
		n.mu.Lock()
		if !n.gone {
			all = append(all, State{Node: n.node, Healthy: n.healthy, Height: n.head.number})
		}
		n.mu.Unlock()
	}
	return all
}

func (p *pool) Learned(tag rpcapi.Tag, number uint64, hash [32]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.learned = append(p.learned, fmt.Sprintf("%d %d %x", tag, number, hash[:2]))
}

// Call tries the nodes in turn, those that are high enough.
func (p *pool) Call(ctx context.Context, c *rpcapi.Call) (*rpcapi.Answer, error) {
	err := rpcapi.ErrNoNode
	for _, n := range p.nodes {
		n.mu.Lock()
		height, deaf := n.head.number, n.deaf
		n.mu.Unlock()
		if deaf || c.Node != 0 && c.Node != n.node.Tag || c.Block.Number > height && c.Node == 0 {
			continue
		}
		req, e := http.NewRequestWithContext(ctx, http.MethodPost, n.http.URL, bytes.NewReader(c.Body))
		if e != nil {
			return nil, e
		}
		resp, e := p.client.Do(req)
		if e != nil {
			err = errors.Join(rpcapi.ErrUnreachable, e)
			continue
		}
		b, e := io.ReadAll(resp.Body)
		resp.Body.Close()
		if e == nil {
			return &rpcapi.Answer{Status: 200, Body: b, Node: n.node}, nil
		}
	}
	return nil, err
}

// rig is a running feed.
type rig struct {
	*Feed
	t    testing.TB
	pool *pool
	stop func() error
}

func open(tb testing.TB, nodes []*fakeNode, changes ...func(*Config)) *rig {
	tb.Helper()
	cfg := DefaultConfig()
	cfg.Poll, cfg.Watch, cfg.Silence = 5*time.Millisecond, 5*time.Millisecond, 50*time.Millisecond
	cfg.BackoffMin, cfg.BackoffMax = time.Millisecond, 10*time.Millisecond
	for _, change := range changes {
		change(&cfg)
	}
	r := &rig{t: tb, pool: &pool{nodes: nodes, client: &http.Client{Transport: &http.Transport{}}}}
	var err error
	r.Feed, err = New(cfg, Ports{Calls: r.pool, Nodes: r.pool, Learner: r.pool}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	tb.Cleanup(func() {
		require.NoError(tb, r.stop())
		r.pool.client.CloseIdleConnections()
	})
	require.Eventually(tb, func() bool { return r.Feed.head() != nil }, patience, time.Millisecond)
	return r
}

// client takes a subscription's results.
type client struct {
	t   testing.TB
	sub rpcapi.Subscription

	mu   sync.Mutex
	got  []string
	err  error
	full bool
}

func (r *rig) subscribe(params string) *client {
	r.t.Helper()
	c := &client{t: r.t}
	var err error
	c.sub, err = r.Subscribe(r.t.Context(), []byte(params), c.deliver)
	require.NoError(r.t, err)
	return c
}

func (c *client) deliver(n rpcapi.Notification) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.Err != nil {
		c.err = n.Err
		return false
	}
	if c.full {
		return false
	}
	c.got = append(c.got, short(string(n.Result)))
	return true
}

// short is a header's or a log's block by its name, a log with its index, a removed one with a minus before it.
func short(result string) string {
	var v struct {
		ExtraData, Data, LogIndex string
		Removed                   bool
	}
	if json.Unmarshal([]byte(result), &v) != nil || v.ExtraData+v.Data == "" {
		return result
	}
	if v.Removed {
		v.Data = "-" + v.Data
	}
	return v.ExtraData + v.Data + strings.Replace(v.LogIndex, "0x", ".", 1)
}

func (c *client) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

func (c *client) ended() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// sees waits for exactly these results.
func (c *client) sees(want ...string) {
	c.t.Helper()
	deadline := time.Now().Add(patience)
	for len(c.all()) < len(want) && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond) // a poll with a deadline
	}
	require.Equal(c.t, want, c.all())
}
