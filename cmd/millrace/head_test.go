package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// executionNode is a node; while its block is zero it has none.
type executionNode struct {
	*httptest.Server
	block, chain atomic.Uint64
	chainAsked   atomic.Int64
}

func newNode(t *testing.T, chain, block uint64) *executionNode {
	t.Helper()
	n := &executionNode{}
	n.chain.Store(chain)
	n.block.Store(block)
	n.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		result := n.block.Load()
		if strings.Contains(string(body), `"eth_chainId"`) {
			n.chainAsked.Add(1)
			result = n.chain.Load()
		}
		if result == 0 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":1,"result":"%#x"}`, result)
	}))
	t.Cleanup(n.Close)
	return n
}

// headOf is a head source of chain 1 that nobody runs; its log comes with it.
func headOf(t *testing.T, at string) (*head, *logbook) {
	t.Helper()
	log := &logbook{}
	h := newHead(Orders{HeadURL: at, ChainID: 1}, slog.New(slog.NewJSONHandler(log, nil)), prometheus.NewRegistry())
	t.Cleanup(h.client.CloseIdleConnections)
	return h, log
}

// sentBlock is the target block of the tests' bundles.
const sentBlock = 0x1312d00

func TestABundleExpiresWhenItsTargetBlockComes(t *testing.T) {
	t.Parallel()
	node := newNode(t, 1, sentBlock-1)
	builder := newBuilder(t)
	builder.status.Store(http.StatusServiceUnavailable)
	p := start(t, nil, nodeArgs(t.TempDir(), "--builder.url="+builder.URL, "--orders.head_url="+node.URL)...)
	eventually(t, "the block is known", func() bool {
		_, metrics := get(t, p.url("admin")+"/metrics")
		return strings.Contains(metrics, fmt.Sprintf("millrace_head_block %v", float64(sentBlock-1)))
	})
	s := newSender(t)
	hash := s.accepted(t, p.url("ingress"))
	require.Empty(t, records(t, p.url("admin"), "--hash", hash))
	node.block.Store(sentBlock)
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
	node := newNode(t, 1, 0)
	h, log := headOf(t, node.URL)
	h.round(t.Context())
	h.round(t.Context())
	require.Zero(t, h.Block())
	node.block.Store(7)
	h.round(t.Context())
	h.round(t.Context())
	require.EqualValues(t, 7, h.Block())
	node.block.Store(0)
	h.round(t.Context())
	require.EqualValues(t, 7, h.Block())
	require.InDelta(t, 3, testutil.ToFloat64(h.errors), 0)
	require.Equal(t, 3, strings.Count(log.String(), "newest block"), "one line for each change")
}

func TestANodeOfAnotherChainIsNotBelieved(t *testing.T) {
	const ignored = "orders.head_url is not used, target blocks end nothing new"
	node := newNode(t, 5, 7)
	h, log := headOf(t, node.URL)
	h.round(t.Context())
	h.round(t.Context())
	require.Zero(t, h.Block())
	require.InDelta(t, 1, testutil.ToFloat64(h.foreign), 0)
	require.Equal(t, "another chain: the node is of chain 5, orders.chain_id is 1", log.find(ignored, 1)["error"])
	require.Nil(t, log.find(ignored, 2), "one line")
	require.NotContains(t, log.String(), node.URL, "it may carry a token")
	node.chain.Store(1)
	h.round(t.Context())
	require.EqualValues(t, 7, h.Block())
	require.Zero(t, testutil.ToFloat64(h.foreign))
}

func TestTheChainIsAskedForAgainWhereItMayHaveChanged(t *testing.T) {
	node := newNode(t, 1, 7)
	h, _ := headOf(t, node.URL)
	for range 3 {
		h.round(t.Context())
	}
	require.EqualValues(t, 1, node.chainAsked.Load(), "once, while all is well")

	node.CloseClientConnections() // behind a new connection may be another node
	node.chain.Store(5)
	node.block.Store(9)
	eventually(t, "the new connection's node is of another chain", func() bool {
		h.round(t.Context()) // more than one while the client has not seen the end of the old connection
		return testutil.ToFloat64(h.foreign) == 1
	})
	require.EqualValues(t, 7, h.Block(), "the other chain's block never counts")

	node.chain.Store(1)
	h.round(t.Context())
	require.EqualValues(t, 9, h.Block())
	node.block.Store(0)
	h.round(t.Context())
	before := node.chainAsked.Load()
	node.block.Store(11)
	h.round(t.Context())
	require.Equal(t, before+1, node.chainAsked.Load(), "after a failure")
	require.EqualValues(t, 11, h.Block())
}

func TestAHeadSourceIsAddedReplacedAndTakenAwayByReload(t *testing.T) {
	t.Parallel()
	first, other, second := newNode(t, 1, 7), newNode(t, 5, 99), newNode(t, 1, 8)
	path := filepath.Join(t.TempDir(), "millrace.yaml")
	write := func(url string) {
		tmp := path + ".tmp"
		require.NoError(t, os.WriteFile(tmp, []byte("orders:\n  head_url: \""+url+"\"\n"), 0o600))
		require.NoError(t, os.Rename(tmp, path))
	}
	write("")
	p := start(t, nil, nodeArgs(t.TempDir(), "--config="+path)...)
	block := func(want int) func() bool {
		return func() bool {
			_, metrics := get(t, p.url("admin")+"/metrics")
			return strings.Contains(metrics, fmt.Sprintf("millrace_head_block %d\n", want))
		}
	}
	eventually(t, "no block is known", block(0))
	write(first.URL)
	eventually(t, "the first node's block", block(7))
	require.Equal(t, []any{"orders.head_url"}, p.line("reloaded", 1)["keys"])
	write(other.URL)
	p.line("orders.head_url is not used, target blocks end nothing new", 1)
	require.True(t, block(7)(), "what our chain had reached stays true")
	write(second.URL)
	eventually(t, "the second node's block", block(8))
	write("")
	eventually(t, "no block is known any more", block(0))
}

func TestAnAnswerOfTheURLBeforeIsNotTaken(t *testing.T) {
	node := newNode(t, 1, 7)
	h, _ := headOf(t, node.URL)
	h.round(t.Context())
	h.follow("")
	h.take(t.Context(), 8, nil)
	require.Zero(t, h.Block())
	h.follow("")
	h.round(t.Context())
	require.Zero(t, h.Block())
}

func TestTheHeadSourcesErrorsDontTellItsURL(t *testing.T) {
	h, log := headOf(t, "http://127.0.0.1:1/secret-token")
	h.round(t.Context())
	require.NotNil(t, log.find("newest block not known, target blocks end nothing new", 1))
	require.NotContains(t, log.String(), "secret-token")
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
	t.Parallel()
	for _, bad := range []string{"node:8545", "ws://node:8546", "http://", "::"} {
		o := call(t, "", nil, "config", "check", "--orders.head_url="+bad)
		require.NotEqual(t, exitOK, o.code)
		require.Contains(t, o.errors, "orders.head_url")
	}
}
