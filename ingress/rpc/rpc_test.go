package rpc

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

func TestABatchIsUnderWayAtOnceWithinItsBound(t *testing.T) {
	t.Parallel()
	f := open(t, DialectJSONRPC, func(c *Config, _ *Ports) { c.BatchParallel = 8 })
	came, release := held(f.node)
	var elements []string
	for i := range 100 {
		elements = append(elements, request(fmt.Sprint(i), "eth_call", ""))
	}
	answers := make(chan said, 1)
	go func() { answers <- f.post("/", "["+strings.Join(elements, ",")+"]") }()
	for range 8 {
		<-came
	}
	require.Empty(t, came) // the ninth waits
	close(release)
	s := <-answers
	var got []struct{ ID int }
	require.NoError(t, json.Unmarshal([]byte(s.body), &got), s.body)
	require.Len(t, got, 100)
	for i := range got {
		require.Equal(t, i, got[i].ID)
	}
	require.Len(t, f.node.calls(), 100)
	require.Equal(t, "2", s.header.Get("X-LB-Tries"))
	require.Equal(t, "77", s.header.Get("X-LB-Block"))
}

func TestWhatACallReadsGoesWithIt(t *testing.T) {
	t.Parallel()
	f := open(t, DialectJSONRPC)
	f.post("/", `{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":["0x0000000000000000000000000000000000000001","0x10"]}`, "X-Request-Id: r")
	f.post("/", `[{"jsonrpc":"2.0","id":1,"method":"made_up","params":["0x10"]}]`)
	calls := f.node.calls()
	require.Equal(t, "eth_getBalance", calls[0].Method)
	require.Equal(t, rpcapi.Block{Kind: rpcapi.BlockNumber, Number: 16}, calls[0].Block)
	require.Equal(t, "r", calls[0].RequestID)
	require.NotZero(t, calls[0].Client)
	require.Equal(t, calls[0].Client, calls[1].Client)
	require.Equal(t, "made_up", calls[1].Method)
	require.Zero(t, calls[1].Block)
}

func TestLimitsSeeWhoCalls(t *testing.T) {
	t.Parallel()
	l := &limits{method: "none"}
	f := open(t, DialectJSONRPC, func(c *Config, p *Ports) { c.TrustedProxies, p.Limits = []string{"127.0.0.0/8"}, l })
	f.post("/", request("1", "a", ""))
	f.post("/", "["+request("1", "a", "")+","+request("2", "b", "")+"]", "X-Forwarded-For: 1.2.3.4, 2001:db8:1:2:3::4, 127.0.0.9", "X-Api-Key: key")
	f.post("/sim", "x", "X-Forwarded-For: nonsense")
	require.ElementsMatch(t, []string{
		"127.0.0.1  a", "2001:db8:1:2:: key a", "2001:db8:1:2:: key b", "127.0.0.1  ",
	}, l.saw)
}

func TestSubscriptionsAreAdmittedByTheSameRules(t *testing.T) {
	t.Parallel()
	f := made(t, DialectJSONRPC, func(c *Config, p *Ports) {
		c.Methods.Deny, p.Limits = []string{"eth_unsubscribe"}, &limits{method: "eth_limited"}
	})
	require.Nil(t, f.Admit(Client{}, "eth_subscribe"))
	require.Equal(t, -32601, f.Admit(Client{}, "eth_unsubscribe").Code)
	require.Equal(t, "rate limit exceeded, retry in 2 seconds", f.Admit(Client{}, "eth_limited").Message)
}

// memory is a Cache that has an answer for one method and passes all others.
type memory struct{ method string }

func (c memory) Do(ctx context.Context, _ *rpcapi.Call, m rpcapi.Method, _, id []byte, fetch func(context.Context) (*rpcapi.Answer, error)) (*rpcapi.Answer, rpcapi.Source, error) {
	if m.Name != c.method {
		a, err := fetch(ctx)
		return a, rpcapi.SourceMiss, err
	}
	return &rpcapi.Answer{Status: 200, Body: []byte(`{"jsonrpc":"2.0","id":` + string(id) + `,"result":"kept"}`), Height: 5}, rpcapi.SourceHit, nil
}

func TestACacheStandsBeforeTheNodes(t *testing.T) {
	t.Parallel()
	f := open(t, DialectJSONRPC, func(_ *Config, p *Ports) { p.Cache = memory{"eth_chainId"} })
	f.node.echoes(`"node"`)
	s := f.post("/", request(`"x"`, "eth_chainId", ""))
	require.JSONEq(t, `{"jsonrpc":"2.0","id":"x","result":"kept"}`, s.body)
	require.Equal(t, "hit", s.header.Get("X-LB-Cache"))
	require.Equal(t, "5", s.header.Get("X-LB-Block"))
	require.Empty(t, s.header.Get("X-LB-Tries"))
	require.Empty(t, f.node.calls())
	s = f.post("/", request(`1`, "eth_blockNumber", ""))
	require.Contains(t, s.body, "node")
	require.Equal(t, "miss", s.header.Get("X-LB-Cache"))
	// What is never kept does not come there, nor what wants no answer.
	require.Empty(t, f.post("/", request(`1`, "eth_sendRawTransaction", "")).header.Get("X-LB-Cache"))
	require.Equal(t, 204, f.post("/", `{"jsonrpc":"2.0","method":"eth_chainId"}`).status)
	require.Len(t, f.node.calls(), 3)
}

func TestAnswersAreCompressedForWhoAsks(t *testing.T) {
	t.Parallel()
	f := open(t, DialectJSONRPC)
	long := `{"jsonrpc":"2.0","id":1,"result":"` + strings.Repeat("0", 5000) + `"}`
	f.node.says(long)
	s := f.post("/", request("1", "a", ""))
	require.Equal(t, long, s.body)
	require.Equal(t, fmt.Sprint(len(long)), s.header.Get("Content-Length"))
	s = f.post("/", request("1", "a", ""), "Accept-Encoding: br, gzip;q=0.5")
	require.Equal(t, "gzip", s.header.Get("Content-Encoding"))
	require.Less(t, len(s.body), 500)
	zr, err := gzip.NewReader(strings.NewReader(s.body))
	require.NoError(t, err)
	plain, err := io.ReadAll(zr)
	require.NoError(t, err)
	require.Equal(t, long, string(plain))
	require.Empty(t, f.post("/", request("1", "a", ""), "Accept-Encoding: gzip;q=0").header.Get("Content-Encoding"))
	f.node.says("{}")
	require.Empty(t, f.post("/", request("1", "a", ""), "Accept-Encoding: gzip").header.Get("Content-Encoding"))
}

func TestCompressedBodiesAreBoundedByWhatTheyHold(t *testing.T) {
	t.Parallel()
	f := open(t, DialectJSONRPC, func(c *Config, _ *Ports) { c.MaxBody = 10_000 })
	zip := func(s string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = io.WriteString(w, s)
		_ = w.Close()
		return b.String()
	}
	require.Equal(t, 200, f.post("/", zip(request("1", "a", "")), "Content-Encoding: gzip").status)
	require.Equal(t, request("1", "a", ""), string(f.node.calls()[0].Body))
	require.Equal(t, 413, f.post("/", zip(strings.Repeat(" ", 10_001)), "Content-Encoding: gzip").status)
	require.Contains(t, f.post("/", "nonsense", "Content-Encoding: gzip").body, "Parse error")
	require.Contains(t, f.post("/", "x", "Content-Encoding: br").body, "unsupported content encoding")
	require.Len(t, f.node.calls(), 1)
	f.settled()
}

func TestPagesOfAllowedOriginsMayCall(t *testing.T) {
	t.Parallel()
	f := open(t, DialectJSONRPC)
	s := f.post("/", request("1", "a", ""), "Origin: https://a.example")
	require.Equal(t, "*", s.header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "*", s.header.Get("Access-Control-Expose-Headers"))
	s, err := f.try(t.Context(), http.MethodOptions, "/path", nil, "Origin: https://a.example",
		"Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type,x-api-key")
	require.NoError(t, err)
	require.Equal(t, 204, s.status)
	require.Equal(t, "content-type,x-api-key", s.header.Get("Access-Control-Allow-Headers"))
	require.Equal(t, "300", s.header.Get("Access-Control-Max-Age"))
	require.Empty(t, f.node.calls()[1:])

	f = open(t, DialectJSONRPC, func(c *Config, _ *Ports) { c.CORS = []string{"https://a.example"} })
	s = f.post("/", request("1", "a", ""), "Origin: https://a.example")
	require.Equal(t, "https://a.example", s.header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "Origin", s.header.Get("Vary"))
	require.Empty(t, f.post("/", request("1", "a", ""), "Origin: https://b.example").header.Get("Access-Control-Allow-Origin"))
	require.Empty(t, f.post("/", request("1", "a", "")).header.Get("Access-Control-Allow-Origin"))
}

func TestOneMessageOfAWebSocketTakesTheSamePath(t *testing.T) {
	t.Parallel()
	f := open(t, DialectJSONRPC)
	f.node.echoes("1")
	c := Client{Class: rpcapi.High}
	require.JSONEq(t, `{"jsonrpc":"2.0","id":7,"result":1}`, string(f.Answer(t.Context(), []byte(request("7", "a", "")), c)))
	require.Equal(t, rpcapi.High, f.node.calls()[0].Class)
	require.Empty(t, f.Answer(t.Context(), []byte(`{"jsonrpc":"2.0","method":"a"}`), c))
	require.JSONEq(t, `[{"jsonrpc":"2.0","id":1,"error":{"code":-32004,"message":"subscription in batch request is not supported","data":{"reason":"invalid_request"}}},{"jsonrpc":"2.0","id":2,"result":1}]`,
		string(f.Answer(t.Context(), []byte("["+request("1", "eth_subscribe", `"newHeads"`)+","+request("2", "a", "")+"]"), c)))
	require.Contains(t, string(f.Answer(t.Context(), []byte("x"), c)), "Parse error")
	f.settled()
}

func TestRepliesToMessagesAreNotSharedBetweenThem(t *testing.T) {
	t.Parallel()
	f := made(t, DialectJSONRPC)
	f.node.echoes("1")
	var spoilt atomic.Value
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 200 {
				id := fmt.Sprint(i)
				got := f.Answer(t.Context(), []byte("["+request(id, "a", "")+"]"), Client{Class: rpcapi.Low})
				_ = f.Answer(t.Context(), []byte("x"), Client{Class: rpcapi.Low})
				if string(got) != `[{"jsonrpc":"2.0","id":`+id+`,"result":1}]` {
					spoilt.Store(string(got))
				}
			}
		})
	}
	wg.Wait()
	require.Nil(t, spoilt.Load())
}

// sockets takes handshakes and holds them until stop is closed or their contexts end.
type sockets struct {
	open  atomic.Int32
	stop  chan struct{}
	cause chan error
}

func (s *sockets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	s.open.Add(1)
	select {
	case <-s.stop:
	case <-r.Context().Done():
	}
	s.cause <- context.Cause(r.Context())
}

func TestADoorWaitsForItsWebSockets(t *testing.T) {
	t.Parallel()
	for _, drain := range []time.Duration{time.Minute, 10 * time.Millisecond} {
		s := &sockets{stop: make(chan struct{}), cause: make(chan error, 2)}
		f := open(t, DialectJSONRPC, func(c *Config, p *Ports) { c.Drain, p.Sockets = drain, s })
		for _, path := range []string{"/", "/any/path"} {
			conn := f.dial()
			_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n", path)
			require.NoError(t, err)
		}
		require.Eventually(t, func() bool { return s.open.Load() == 2 }, patience, time.Millisecond)
		ended := make(chan error, 1)
		go func() { ended <- f.stop() }()
		if drain < time.Second { // nobody stops them
			require.ErrorIs(t, <-s.cause, rpcapi.ErrStopping)
			require.ErrorIs(t, <-s.cause, rpcapi.ErrStopping)
		} else {
			require.Eventually(t, func() bool { return f.Ready() != nil }, patience, time.Millisecond)
			require.Empty(t, ended)
			close(s.stop)
			require.NoError(t, <-s.cause)
			require.NoError(t, <-s.cause)
		}
		require.NoError(t, <-ended)
	}
}

func TestWithoutSocketsAHandshakeIsRefused(t *testing.T) {
	t.Parallel()
	f := open(t, DialectJSONRPC)
	s, err := f.try(t.Context(), http.MethodGet, "/", nil, "Connection: Upgrade", "Upgrade: websocket")
	require.NoError(t, err)
	require.Equal(t, 501, s.status)
}
