package health

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/rpcapi"
)

func TestAFullCheckIsOneBatch(t *testing.T) {
	p := &peer{chain: 5, number: 100, finalized: 64, at: time.Unix(1700000000, 0)}
	pr := &prober{mode: ModeAuto, ask: httpAsk(t)}
	r := pr.check(t.Context(), serve(t, p))
	require.Equal(t, report{
		chain: 5, knows: tellsHead,
		head:      block{number: 100, hash: hashOf(100, ""), at: time.Unix(1700000000, 0)},
		finalized: block{number: 64, hash: hashOf(64, ""), at: time.Unix(1700000000, 0)},
	}, r)
	asked, batches := p.seen()
	require.Equal(t, 1, asked)
	require.Equal(t, 1, batches)
}

func TestWhereABatchIsRefusedSingleCallsDo(t *testing.T) {
	for name, p := range map[string]*peer{
		"with an error":  {chain: 5, number: 100, noBatch: true},
		"with a created": {chain: 5, number: 100, noBatch: true, status: http.StatusCreated},
		"as too large":   {chain: 5, number: 100, shortBatch: true},
	} {
		t.Run(name, func(t *testing.T) {
			pr, node := &prober{mode: ModeAuto, ask: httpAsk(t)}, serve(t, p)
			for range 2 {
				r := pr.check(t.Context(), node)
				require.Empty(t, r.fault)
				require.Equal(t, uint64(100), r.head.number)
				require.Zero(t, r.finalized)
			}
			_, batches := p.seen()
			require.Equal(t, 1, batches, "it is not tried again")
		})
	}
}

func TestASimulatorPassesWithLess(t *testing.T) {
	for name, k := range map[string]struct {
		peer       *peer
		auto, full Reason
		netVersion Reason
	}{
		"knows no eth methods":       {&peer{code: -32601}, "", ReasonNoMethods, ""},
		"echoes one answer":          {&peer{raw: `{"jsonrpc":"2.0","id":1,"result":"pong"}`}, "", ReasonNoMethods, ""},
		"is no JSON-RPC":             {&peer{raw: "ok"}, "", ReasonNoMethods, ""},
		"answers nothing":            {&peer{status: 202, raw: " "}, "", ReasonNoMethods, ""},
		"400 with a JSON-RPC error":  {&peer{status: 400, raw: `{"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"x"}}`}, "", ReasonNoMethods, ""},
		"404":                        {&peer{status: 404, raw: "not here"}, ReasonStatus, ReasonNoMethods, ReasonStatus},
		"503":                        {&peer{status: 503, raw: "x"}, ReasonStatus, ReasonStatus, ReasonStatus},
		"503 with a JSON-RPC error":  {&peer{status: 503, raw: `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}`}, ReasonStatus, ReasonNoMethods, ReasonStatus},
		"429":                        {&peer{status: 429}, ReasonStatus, ReasonStatus, ReasonStatus},
		"a node that fails":          {&peer{code: -32000}, ReasonRPCError, ReasonRPCError, ""},
		"a node with its own errors": {&peer{code: -32603}, ReasonRPCError, ReasonRPCError, ""},
	} {
		t.Run(name, func(t *testing.T) {
			node, ask := serve(t, k.peer), httpAsk(t)
			for mode, want := range map[Mode]Reason{ModeAuto: k.auto, ModeFull: k.full, ModeNetVersion: k.netVersion} {
				r := (&prober{mode: mode, ask: ask}).check(t.Context(), node)
				require.Equal(t, want, r.fault, mode.String())
				require.NotEqual(t, tellsHead, r.knows)
			}
		})
	}
}

func TestASimulatorIsSparedTheFullCheckForAWhile(t *testing.T) {
	p := &peer{code: -32601}
	pr, node := &prober{mode: ModeAuto, ask: httpAsk(t)}, serve(t, p)
	for range again + 1 {
		require.Empty(t, pr.check(t.Context(), node).fault)
	}
	asked, batches := p.seen()
	require.Equal(t, 1, batches)
	require.Equal(t, again+2, asked)
	p.set(func(p *peer) { p.code, p.chain, p.number = 0, 1, 7 })
	require.Equal(t, uint64(7), pr.check(t.Context(), node).head.number, "it was a node all along")
	p.set(func(p *peer) { p.code = -32601 })
	require.Equal(t, ReasonNoMethods, pr.check(t.Context(), node).fault, "and is one from now on")
}

func TestWhatANodeWithAChainButNoHeadSaysIsNotForgotten(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`[{"jsonrpc":"2.0","id":1,"result":"0x5"},{"jsonrpc":"2.0","id":2,"error":{"code":-32601}}]`))
	}))
	t.Cleanup(s.Close)
	r := (&prober{mode: ModeAuto, ask: httpAsk(t)}).check(t.Context(), parse(t, s.URL))
	require.Empty(t, r.fault)
	require.Equal(t, uint64(5), r.chain)

	null := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`[{"jsonrpc":"2.0","id":1,"result":"0x5"},{"jsonrpc":"2.0","id":2,"result":null}]`))
	}))
	t.Cleanup(null.Close)
	r = (&prober{mode: ModeAuto, ask: httpAsk(t)}).check(t.Context(), parse(t, null.URL))
	require.Equal(t, ReasonRPCError, r.fault)
}

func TestOneCheckSaysWhyANodeIsRefused(t *testing.T) {
	r, nodes := newRig(t, 2, func(c *Config) { c.ChainID, c.Timeout = 1, 50*time.Millisecond })
	require.NoError(t, r.Check(t.Context(), nodes[0]))
	p := r.peer(nodes[0])
	for text, change := range map[string]func(*peer){
		"unreachable: connection refused":         func(p *peer) { p.down = true },
		"status: status 503 Service Unavailable":  func(p *peer) { p.status = 503 },
		"wrong_chain: chain id 5, expected 1":     func(p *peer) { p.chain = 5 },
		"timeout: context deadline exceeded":      func(p *peer) { p.hangs = true },
		"syncing: syncing at block 100":           func(p *peer) { p.syncing = true },
		"rpc_error: error -32000: the method is ": func(p *peer) { p.code = -32000 },
	} {
		p.mend()
		p.set(change)
		err := r.Check(t.Context(), nodes[0])
		require.ErrorIs(t, err, ErrUnhealthy)
		require.ErrorContains(t, err, text)
	}
	require.Zero(t, r.tellings(), "it judges nobody")
}

func TestAServerThatIsGoneIsUnreachable(t *testing.T) {
	s := httptest.NewServer(&peer{})
	node := parse(t, strings.Replace(s.URL, "http://", "http://user:secret@", 1)+"?key=hidden")
	s.Close()
	r := (&prober{mode: ModeAuto, ask: httpAsk(t)}).check(t.Context(), node)
	require.Equal(t, ReasonUnreachable, r.fault)
	require.Contains(t, r.text, "refused")
	require.NotContains(t, r.text, "hidden")
}

func TestTextsHaveNoCredentials(t *testing.T) {
	n := parse(t, "https://user:secret@node.example:8545/path?key=hidden&_workers=3")
	wrapped := &url.Error{Op: "Post", URL: n.URL.String(), Err: errors.New("dial tcp: connection refused")}
	require.Equal(t, "dial tcp: connection refused", safeText(n, wrapped))
	text := safeText(n, errors.New("can't ask "+n.URL.String()+" or "+n.URI+"\nwith secret, key=hidden"+strings.Repeat("é", 300)))
	for _, s := range []string{"secret", "hidden", "\n"} {
		require.NotContains(t, text, s)
	}
	require.LessOrEqual(t, len(text), maxText+len("…"))
	pinned := parse(t, "https://TDX_abcdef@node.example")
	require.NotContains(t, safeText(pinned, errors.New("measured abcdef")), "abcdef")
}

func TestNewRefusesWhatItCanNotWorkWith(t *testing.T) {
	ask := func(context.Context, *rpcapi.Node, []byte) (int, []byte, error) { return 0, nil, nil }
	r := &rig{reg: prometheus.NewRegistry()}
	m := newMonitor(t, DefaultConfig(), ask, r)
	_, err := New(DefaultConfig(), ask, r.hear, m.log, r.reg)
	require.ErrorContains(t, err, "register metrics")
	_, err = New(DefaultConfig(), nil, r.hear, m.log, r.reg)
	require.Error(t, err)
	_, err = New(Config{}, ask, r.hear, m.log, r.reg)
	for _, key := range []string{"check", "interval", "timeout", "fall", "rise", "failures", "window", "error_rate", "slow_factor"} {
		require.ErrorContains(t, err, key)
	}
}

func TestModesAreWrittenAsTheyAreRead(t *testing.T) {
	for m := ModeAuto; m <= ModeNone; m++ {
		text, err := m.MarshalText()
		require.NoError(t, err)
		var again Mode
		require.NoError(t, again.UnmarshalText(text))
		require.Equal(t, m, again)
	}
	var m Mode
	require.Error(t, m.UnmarshalText([]byte("fast")))
}

func FuzzDecodeReplies(f *testing.F) {
	f.Add([]byte(`[{"jsonrpc":"2.0","id":"1","result":"0x5"},{"id":2,"result":{"number":"0x1","hash":"0x00","timestamp":"0x1"}}]`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}`))
	f.Add([]byte(`[{"id":4,"result":{}},null]`))
	n, err := rpcapi.ParseNode("http://h")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, body []byte) {
		if replies, ok := decodeBatch(body); ok {
			r := read(n, &replies)
			require.Equal(t, r.knows == tellsHead, r.fault == "")
			require.LessOrEqual(t, len(r.text), maxText+len("…"))
		}
		if r, ok := decodeReply(body); ok {
			r.block()
			r.quantity()
			r.syncing()
		}
	})
}
