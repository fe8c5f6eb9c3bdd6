package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// executionNode answers eth_blockNumber; while its block is zero it has none.
func executionNode(t *testing.T, block *atomic.Uint64) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		n := block.Load()
		if !strings.Contains(string(body), `"eth_blockNumber"`) || n == 0 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":1,"result":"%#x"}`, n)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// sentBlock is the target block of the tests' bundles.
const sentBlock = 0x1312d00

func TestABundleExpiresWhenItsTargetBlockComes(t *testing.T) {
	var block atomic.Uint64
	block.Store(sentBlock - 1)
	builder := newBuilder(t)
	builder.status.Store(http.StatusServiceUnavailable)
	p := start(t, nil, nodeArgs(t.TempDir(), "--builder.url="+builder.URL, "--orders.head_url="+executionNode(t, &block))...)
	eventually(t, "the block is known", func() bool {
		_, metrics := get(t, p.url("admin")+"/metrics")
		return strings.Contains(metrics, fmt.Sprintf("millrace_head_block %v", float64(sentBlock-1)))
	})
	s := newSender(t)
	hash := s.accepted(t, p.url("ingress"))
	require.Empty(t, records(t, p.url("admin"), "--hash", hash))
	block.Store(sentBlock)
	eventually(t, "expired long before its deadline", func() bool {
		rs := records(t, p.url("admin"), "--hash", hash)
		return len(rs) == 1 && rs[0].Outcome == "expired" && rs[0].Text == fmt.Sprintf("target block %d is past", sentBlock)
	})
	builder.status.Store(0)
	late := s.accepted(t, p.url("ingress"))
	eventually(t, "expired without a request", func() bool {
		rs := records(t, p.url("admin"), "--hash", late)
		return len(rs) == 1 && rs[0].Outcome == "expired" && rs[0].Attempts == 0
	})
	require.Empty(t, builder.got())
}

func TestTheLastKnownBlockStaysWhileTheNodeIsAway(t *testing.T) {
	var block atomic.Uint64
	var log logbook
	h := newHead(executionNode(t, &block), slog.New(slog.NewJSONHandler(&log, nil)), prometheus.NewRegistry())
	ask := func() {
		n, err := h.ask(t.Context())
		h.take(t.Context(), n, err)
	}
	ask()
	ask()
	require.Zero(t, h.Block())
	block.Store(7)
	ask()
	ask()
	require.EqualValues(t, 7, h.Block())
	block.Store(0)
	ask()
	require.EqualValues(t, 7, h.Block())
	require.InDelta(t, 3, testutil.ToFloat64(h.errors), 0)
	require.Equal(t, 3, strings.Count(log.String(), "newest block"), "one line for each change")
	h.client.CloseIdleConnections()
}

func TestTheHeadSourcesErrorsDontTellItsURL(t *testing.T) {
	h := newHead("http://127.0.0.1:1/secret-token", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	_, err := h.ask(context.Background())
	require.ErrorIs(t, err, errHead)
	require.NotContains(t, err.Error(), "secret-token")
}

func TestOnlyAQuantityIsABlockNumber(t *testing.T) {
	n, err := parseHead([]byte(`{"jsonrpc":"2.0","id":1,"result":"0x10"}`))
	require.NoError(t, err)
	require.EqualValues(t, 16, n)
	for _, body := range []string{
		``, `[]`, `{}`, `{"result":16}`, `{"result":"16"}`, `{"result":"0x"}`, `{"result":"0x1ffffffffffffffff"}`, `{"result":"0x-1"}`,
		`{"result":"0x10","error":{"code":-32000,"message":"no"}}`,
	} {
		_, err := parseHead([]byte(body))
		require.ErrorIs(t, err, errHead, body)
	}
}

func FuzzParseHead(f *testing.F) {
	f.Add([]byte(`{"result":"0x1312d00"}`))
	f.Add([]byte(`{"result":"0x","error":{}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if n, err := parseHead(body); err != nil && n != 0 {
			t.Fatal("a number beside an error")
		}
	})
}

func TestAHeadURLMustBeAWebURL(t *testing.T) {
	for _, bad := range []string{"node:8545", "ws://node:8546", "http://", "::"} {
		o := call(t, "", nil, "config", "check", "--orders.head_url="+bad)
		require.NotEqual(t, exitOK, o.code)
		require.Contains(t, o.errors, "orders.head_url")
	}
}
