package socket

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/rpcapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// answers is a door: it answers as its function says.
type answers func(ctx context.Context, message []byte, c Client) []byte

func (a answers) Answer(ctx context.Context, message []byte, c Client) []byte {
	return a(ctx, message, c)
}

// echo answers each request with a result of its own id.
func echo(_ context.Context, message []byte, _ Client) []byte {
	type request struct {
		ID json.RawMessage `json:"id"`
	}
	one := func(r request) string {
		return `{"jsonrpc":"2.0","id":` + string(r.ID) + `,"result":` + string(r.ID) + `}`
	}
	var all []request
	if json.Unmarshal(message, &all) == nil {
		var out []string
		for _, r := range all {
			out = append(out, one(r))
		}
		return []byte("[" + strings.Join(out, ",") + "]")
	}
	var r request
	if json.Unmarshal(message, &r) != nil {
		return []byte(`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}`)
	}
	return []byte(one(r))
}

// station is a feed whose notifications the test sends.
type station struct {
	mu       sync.Mutex
	delivers []rpcapi.Deliver
	closed   int
	params   []string
	// early is delivered before Subscribe returns.
	early []string
	err   error
}

func (s *station) Subscribe(_ context.Context, params []byte, deliver rpcapi.Deliver) (rpcapi.Subscription, error) {
	if s.err != nil {
		return nil, s.err
	}
	for _, e := range s.early {
		deliver(rpcapi.Notification{Result: []byte(e)})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delivers = append(s.delivers, deliver)
	s.params = append(s.params, string(params))
	return s, nil
}

func (s *station) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
}

func (s *station) closes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// send delivers to the n-th subscription.
func (s *station) send(n int, result string) bool {
	s.mu.Lock()
	d := s.delivers[n]
	s.mu.Unlock()
	return d(rpcapi.Notification{Result: []byte(result)})
}

// rig is a running server.
type rig struct {
	*Server
	t    testing.TB
	http *httptest.Server
	feed *station
	stop func() error
}

func open(tb testing.TB, calls answers, changes ...func(*Config)) *rig {
	tb.Helper()
	cfg := DefaultConfig()
	for _, change := range changes {
		change(&cfg)
	}
	r := &rig{t: tb, feed: &station{}}
	log := slog.New(slog.NewTextHandler(&bytes.Buffer{}, nil))
	var err error
	r.Server, err = New(cfg, Ports{Calls: calls, Subscriber: r.feed}, log, prometheus.NewRegistry())
	require.NoError(tb, err)
	r.http = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.Serve(w, req, Client{IP: netip.MustParseAddr("127.0.0.1"), Class: rpcapi.Low})
	}))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	tb.Cleanup(func() {
		require.NoError(tb, r.stop())
		r.http.Close()
	})
	return r
}

// client is a WebSocket of a client.
type client struct {
	t  testing.TB
	ws *websocket.Conn
}

func (r *rig) dial() *client {
	r.t.Helper()
	ws, resp, err := websocket.Dial(r.t.Context(), r.http.URL, nil)
	require.NoError(r.t, err)
	require.Equal(r.t, http.StatusSwitchingProtocols, resp.StatusCode)
	ws.SetReadLimit(64 << 20)
	r.t.Cleanup(func() { _ = ws.CloseNow() })
	return &client{r.t, ws}
}

func (c *client) send(message string) {
	c.t.Helper()
	require.NoError(c.t, c.ws.Write(c.t.Context(), websocket.MessageText, []byte(message)))
}

func (c *client) next() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, b, err := c.ws.Read(ctx)
	return string(b), err
}

func (c *client) read() string {
	c.t.Helper()
	b, err := c.next()
	require.NoError(c.t, err)
	require.True(c.t, json.Valid([]byte(b)), b)
	return b
}

// subscribe returns the subscription's id.
func (c *client) subscribe(params string) string {
	c.t.Helper()
	c.send(`{"jsonrpc":"2.0","id":"s","method":"eth_subscribe","params":` + params + `}`)
	var out struct{ ID, Result string }
	require.NoError(c.t, json.Unmarshal([]byte(c.read()), &out))
	require.Equal(c.t, "s", out.ID)
	require.Regexp(c.t, "^0x[0-9a-f]{32}$", out.Result)
	return out.Result
}
