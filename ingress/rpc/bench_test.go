package rpc

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/ingress/rpc/cache"
	"millrace/internal/rpcapi"
)

// constant answers every call with the same.
type constant struct{ answer rpcapi.Answer }

func (c *constant) Call(context.Context, *rpcapi.Call) (*rpcapi.Answer, error) { return &c.answer, nil }

// blank is a response writer without a connection, whose header a server would make anew each time.
type blank struct {
	header http.Header
	status int
}

func (b *blank) Header() http.Header             { return b.header }
func (b *blank) Write(p []byte) (int, error)     { return len(p), nil }
func (b *blank) WriteHeader(status int)          { b.status = status }
func (b *blank) SetReadDeadline(time.Time) error { return nil }

// call120 is what the comparison with prio-load-balancer sends.
const call120 = `{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"to":"0x0000000000000000000000000000000000000001"},"latest"]}`

// BenchmarkHandler is one call from its headers to its answer, without network and nodes, beside a bare handler of
// net/http that reads the body and writes the same answer: the difference is what the door itself costs.
func BenchmarkHandler(b *testing.B) {
	bundle := `{"jsonrpc":"2.0","id":1,"method":"eth_callBundle","params":["` + strings.Repeat("0123456789", 15_000) + `"]}`
	batch := "[" + strings.Repeat(call120+",", 9) + call120 + "]"
	for _, bb := range []struct {
		name    string
		handler http.Handler
		body    string
	}{
		{"bare/120B", http.HandlerFunc(bare), call120},
		{"bare/150kB", http.HandlerFunc(bare), bundle},
		{"prio/120B", doorOf(b, DialectPrio), call120},
		{"prio/20kB", doorOf(b, DialectPrio), bundle[:20_000]},
		{"prio/150kB", doorOf(b, DialectPrio), bundle},
		{"jsonrpc/120B", doorOf(b, DialectJSONRPC), call120},
		{"jsonrpc/batch10", doorOf(b, DialectJSONRPC), batch},
		{"hit/60B", doorOf(b, DialectJSONRPC, kept(b)), callChainID},
	} {
		b.Run(bb.name, func(b *testing.B) { serve(b, bb.handler, bb.body) })
	}
}

var theAnswer = []byte(`{"jsonrpc":"2.0","id":1,"result":"0x0"}`)

func bare(w http.ResponseWriter, r *http.Request) {
	_, _ = io.ReadAll(r.Body)
	w.Header()["Content-Type"] = []string{"application/json"}
	_, _ = w.Write(theAnswer)
}

func doorOf(b *testing.B, dialect Dialect, changes ...func(*Config, *Ports)) http.Handler {
	b.Helper()
	cfg, ports := DefaultConfig(dialect), Ports{Caller: &constant{rpcapi.Answer{Status: 200, Body: theAnswer, Tries: 1, Height: 20_000_000, QueueStart: 1}}}
	for _, change := range changes {
		change(&cfg, &ports)
	}
	d, err := New(cfg, ports, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(b, err)
	return d.handler()
}

func serve(b *testing.B, h http.Handler, body string) {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "/", nil)
	require.NoError(b, err)
	req.RemoteAddr, req.ContentLength = "192.0.2.1:1", int64(len(body))
	w := &blank{}
	reader := strings.NewReader(body)
	closer := io.NopCloser(reader)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(body)
		req.Body = closer
		w.header = make(http.Header)
		h.ServeHTTP(w, req)
	}
}

// still is a chain that stands still.
type still struct{}

func (still) Head() rpcapi.Head {
	return rpcapi.Head{Number: 20_000_000, Finalized: 19_999_900, Hash: [32]byte{1}}
}

// kept puts a cache before the node, which answers from memory from the second call on.
func kept(tb testing.TB) func(*Config, *Ports) {
	tb.Helper()
	c, err := cache.New(cache.Config{MaxBytes: 1 << 20}, still{}, prometheus.NewRegistry())
	require.NoError(tb, err)
	return func(_ *Config, p *Ports) { p.Cache = c }
}

// callChainID is what the comparison with prio-load-balancer sends for the cache.
const callChainID = `{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}`

// BenchmarkServer is the same over loopback, one connection: the door beside a bare handler in the same kind of
// server.
func BenchmarkServer(b *testing.B) {
	b.Run("bare", func(b *testing.B) { overLoopback(b, DialectPrio, call120, http.HandlerFunc(bare)) })
	b.Run("prio", func(b *testing.B) { overLoopback(b, DialectPrio, call120, nil) })
	b.Run("jsonrpc", func(b *testing.B) { overLoopback(b, DialectJSONRPC, call120, nil) })
	b.Run("hit", func(b *testing.B) { overLoopback(b, DialectJSONRPC, callChainID, nil, kept(b)) })
}

func overLoopback(b *testing.B, dialect Dialect, body string, h http.Handler, changes ...func(*Config, *Ports)) {
	b.Helper()
	changes = append(changes, func(_ *Config, p *Ports) {
		p.Caller = &constant{rpcapi.Answer{Status: 200, Body: theAnswer, Tries: 1, Height: 20_000_000, QueueStart: 1}}
	})
	f := made(b, dialect, changes...)
	if h == nil {
		h = f.handler()
	}
	var lc net.ListenConfig
	l, err := lc.Listen(b.Context(), "tcp", "127.0.0.1:0")
	require.NoError(b, err)
	srv := f.server(b.Context())
	srv.Handler = h
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	conn, err := (&net.Dialer{}).DialContext(b.Context(), "tcp", l.Addr().String())
	require.NoError(b, err)
	defer conn.Close()
	ask := fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Write(ask); err != nil {
			b.Fatal(err)
		}
		// The answer fits one segment of loopback.
		if n, err := conn.Read(buf); err != nil || !strings.HasSuffix(string(buf[:n]), "}") {
			b.Fatal(err, string(buf[:n]))
		}
	}
}
