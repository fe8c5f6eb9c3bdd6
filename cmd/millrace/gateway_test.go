package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/egress/nodes"
	"millrace/internal/bus/gateway"
	"millrace/internal/rpcapi"
)

// gatewaySettings runs config check and returns the settings by key.
func gatewaySettings(t *testing.T, environ ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for key, s := range check(t, environ) {
		all[key] = s.Value
	}
	return all
}

func TestPrioLoadBalancersVariablesMeanTheSame(t *testing.T) {
	s := gatewaySettings(t, "REQUEST_TIMEOUT=7", "JOB_SEND_TIMEOUT=4", "REQUEST_PROXY_TIMEOUT=9", "PAYLOAD_MAX_KB=16", "JOB_CHAN_BUFFER=2",
		"LOG_PROD=1", "LOG_SERVICE=lb", "NUM_NODE_WORKERS=3", "RETRIES_MAX=5", "ITEMS_FASTTRACK_MAX=1", "ITEMS_HIGHPRIO_MAX=2", "ITEMS_LOWPRIO_MAX=3",
		"ITEMS_FASTTRACK_PER_HIGHPRIO=4", "FASTTRACK_DRAIN_FIRST=1", "NODES=http://a:1,http://b:1?_workers=2", "BACKENDS=http://c:1")
	for key, want := range map[string]string{
		"gateway.queues.timeout": "7s", "gateway.queues.dispatch_timeout": "4s", "gateway.node_timeout": "9s", "gateway.max_body": "16KiB",
		"log.format": "json", "node.name": "lb", "gateway.node_workers": "3", "gateway.max_tries": "5",
		"gateway.queues.fast_max": "1", "gateway.queues.high_max": "2", "gateway.queues.low_max": "3",
		"gateway.queues.fast_per_high": "4", "gateway.queues.drain_fast": "true",
		"gateway.node_urls": "http://a:1,http://b:1?_workers=2", "gateway.backends": "http://c:1",
	} {
		require.Equal(t, want, s[key], key)
	}
	// As there, what is no whole number is the default.
	s = gatewaySettings(t, "REQUEST_TIMEOUT=1.5", "JOB_SEND_TIMEOUT=2s", "REQUEST_PROXY_TIMEOUT=0", "PAYLOAD_MAX_KB=much", "LOG_PROD=0")
	for key, want := range map[string]string{
		"gateway.queues.timeout": "5s", "gateway.queues.dispatch_timeout": "2s", "gateway.node_timeout": "3s", "gateway.max_body": "8MiB", "log.format": "auto",
	} {
		require.Equal(t, want, s[key], key)
	}
	o := call(t, "", []string{"REDIS_URI=10.0.0.1:6379", "REDIS_PREFIX=x"}, "config", "check")
	require.Equal(t, exitOK, o.code)
	require.Equal(t, 2, strings.Count(o.errors, "is set but can't be honoured"), o.errors)
}

func TestAGatewaysNodesComeFromEveryListOnce(t *testing.T) {
	g := Gateway{
		Nodes: []NodeEntry{{URL: "http://a:1", Workers: 3, Weight: 2, WSURL: "ws://a:2"}},
		URLs:  []string{"http://b:1?_workers=5", "http://a:1"}, More: []string{"http://b:1?_workers=5", "http://c:1?_workers=0"},
	}
	all, err := g.configured()
	require.NoError(t, err)
	require.Len(t, all, 3)
	require.Equal(t, []int{3, 5, rpcapi.NoWorkers}, []int{all[0].Workers, all[1].Workers, all[2].Workers})
	require.InDelta(t, 2, all[0].Weight, 0)
	require.Equal(t, "ws://a:2", all[0].WS.String())

	g = Gateway{Nodes: []NodeEntry{{URL: "ftp://a"}, {URL: "http://a", Workers: -1}, {URL: "http://secret@b", WSURL: "http://b"}}}
	_, err = g.configured()
	require.ErrorIs(t, err, rpcapi.ErrNodeScheme)
	require.ErrorContains(t, err, "must not be negative")
	require.ErrorContains(t, err, "ws_url")
	require.NotContains(t, err.Error(), "secret")
}

func TestAGatewaysDoorsAreTheListOrTheTwoOfTheFlags(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, ""},
		{[]string{"--gateway.listen=", "--gateway.listen_jsonrpc="}, "no door is left"},
		{[]string{"--gateway.listen=127.0.0.1:1", "--gateway.listen_jsonrpc=127.0.0.1:1"}, "two doors at 127.0.0.1:1"},
		{[]string{`--gateway.listeners=[{"addr":"127.0.0.1:1","dialect":"graphql"}]`}, "dialect must be prio or jsonrpc"},
		{[]string{"--gateway.methods.deny=a*b"}, "methods.deny"},
		{[]string{`--gateway.rate_limit.ip=[{"addr":"nobody","total":"1/s"}]`}, "is no address"},
		{[]string{`--gateway.rate_limit.ip=[{"addr":"::1","method":"eth_call"}]`}, "is not a method's limit"},
		{[]string{`--gateway.rate_limit.ip=[{"addr":"::1"},{"addr":"::1"}]`}, "is there twice"},
	} {
		args := append([]string{"--gateway.mock_node"}, tc.args...)
		var stderr bytes.Buffer
		a := &app{stdout: io.Discard, stderr: &stderr}
		p, err := a.parse(append([]string{"gateway"}, args...))
		if err == nil {
			err = p.settings.Keys.fit(roleGateway)
		}
		if tc.want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, tc.want)
	}
}

func TestAnAddressHasItsOwnLimits(t *testing.T) {
	var g Gateway
	g.IPs = []IPLimit{{Addr: "10.0.0.1", Method: []string{"eth_call=5/s", "eth_getLogs=1/m"}}}
	c, err := g.limits()
	require.NoError(t, err)
	require.Equal(t, 5, c.IP["10.0.0.1"].Method["eth_call"].Count)
	require.Equal(t, time.Minute, c.IP["10.0.0.1"].Method["eth_getLogs"].Window)
}

// newSet is a node set without nodes.
func newSet(t *testing.T) (*nodeSet, *nodeBook) {
	t.Helper()
	a := &app{stdout: io.Discard, stderr: io.Discard}
	p, err := a.parse([]string{"gateway"})
	require.NoError(t, err)
	log, shared := slog.New(slog.DiscardHandler), &nodeBook{}
	pool, err := nodes.New(p.settings.Keys.Gateway.Pool, nil, log, prometheus.NewRegistry())
	require.NoError(t, err)
	return &nodeSet{pool: pool, shared: shared, log: log}, shared
}

func nodesNamed(t *testing.T, uris ...string) []*rpcapi.Node {
	t.Helper()
	all, err := (&Gateway{URLs: uris}).configured()
	require.NoError(t, err)
	return all
}

func TestANodeSetIsTheConfiguredAndTheAddedWithoutTheRemoved(t *testing.T) {
	s, _ := newSet(t)
	s.configure(t.Context(), nodesNamed(t, "http://a:1", "http://b:1"))
	require.Equal(t, []string{"http://a:1", "http://b:1"}, s.List())
	s.hear(t.Context(), []gateway.Entry{{URI: "http://c:1", Weight: 2}, {URI: "http://a:1", Removed: true}, {URI: "ftp://no"}})
	require.Equal(t, []string{"http://b:1", "http://c:1"}, s.List())
	s.configure(t.Context(), nodesNamed(t, "http://a:1", "http://d:1"))
	require.Equal(t, []string{"http://d:1", "http://c:1"}, s.List(), "a removal outlives a reload")
	s.hear(t.Context(), nil)
	require.Equal(t, []string{"http://a:1", "http://d:1"}, s.List())
	// A node that has to prove itself, which nothing here can verify, keeps no other out.
	s.configure(t.Context(), nodesNamed(t, "https://TDX_aa@p:1", "http://a:1"))
	require.Equal(t, []string{"http://a:1"}, s.List())
	s.configure(t.Context(), nil)
	require.Empty(t, s.List())
}

func TestANodeIsAddedOnlyIfItAnswersAndTheChangeIsStored(t *testing.T) {
	s, shared := newSet(t)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":"1"}`)
	}))
	defer up.Close()
	require.ErrorContains(t, s.Add(t.Context(), "ftp://x"), "AddNode failed")
	require.ErrorContains(t, s.Add(t.Context(), "http://127.0.0.1:1"), "AddNode failed: healthcheck failed")
	require.ErrorIs(t, s.Remove(t.Context(), up.URL), errNodeNotFound)
	require.Empty(t, shared.entries)
	shared.err = errors.New("no bus")
	require.ErrorContains(t, s.Add(t.Context(), up.URL), "not stored")
	require.Empty(t, s.List(), "what others don't hear of is not done here either")
	shared.err = nil
	require.NoError(t, s.Add(t.Context(), up.URL))
	require.Equal(t, []string{up.URL}, s.List())
	before := len(shared.entries)
	require.NoError(t, s.Add(t.Context(), up.URL), "it is there")
	require.ErrorContains(t, s.Add(t.Context(), up.URL+"?_workers=4"), "under another URI")
	require.Len(t, shared.entries, before)
	require.NoError(t, s.Remove(t.Context(), up.URL))
	require.Empty(t, s.List())
	require.Equal(t, gateway.Entry{URI: up.URL, Removed: true}, shared.entries[before])
}

func TestAxonProxysFileBecomesOurs(t *testing.T) {
	t.Parallel()
	o := call(t, "", nil, "gateway", "from-axon", filepath.Join("testdata", "axon.toml"))
	require.Equal(t, exitOK, o.code, o.errors)
	for _, about := range []string{"redis", "filter_ttl_secs", "health_check.concurrency", "trusted_proxies", "ws_nodes: no node is left for one at 10.0.0.9"} {
		require.Contains(t, o.errors, "note: "+about)
	}
	s := check(t, nil, "--config="+writeFile(t, o.out))
	for key, want := range map[string]string{
		"gateway.listeners": `[{"addr":"0.0.0.0:8545","dialect":"jsonrpc"}]`,
		"gateway.lb":        "client_ip_hashing", "gateway.connect_timeout": "5s",
		"gateway.rate_limit.total": "6000/m", "gateway.cache.ttl": "10s", "gateway.cache.eth_call": "true", "gateway.cache.eth_estimateGas": "false",
		"gateway.health_check.check": "none", "gateway.health_check.timeout": "2s", "gateway.health_check.interval": "4s",
	} {
		require.Equal(t, want, s[key].Value, key)
	}
	for key, want := range map[string]string{
		"gateway.nodes": `[{"url":"http://10.0.0.1:8545","weight":"2.5","ws_url":"ws://10.0.0.1:8546"},
			{"url":"http://10.0.0.1:9545","ws_url":"ws://10.0.0.1:9546"},{"url":"http://10.0.0.2:8545"}]`,
		"gateway.rate_limit.ip": `[{"addr":"1.2.3.4","method":"eth_getLogs=5/m","total":"10/m"}]`,
	} {
		require.JSONEq(t, want, s[key].Value, key)
	}
	require.Contains(t, s["gateway.rate_limit.method"].Value, "eth_call:600/m")

	for text, why := range map[string]string{
		"bind = 1\nblurb = 2": "blurb", "bind = 'x'": "bind", "bind = 1\n[cache]\nttl = 1": "ttl", "bind = 1\n[rate_limit]\ntotal = 'many'": "total", "= 1": "axon.toml",
		"bind = 1\n[rate_limit.method]\ndebug_x = 0": "methods.deny",
	} {
		file := filepath.Join(t.TempDir(), "axon.toml")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		o = call(t, "", nil, "gateway", "from-axon", file)
		require.Equal(t, exitUsage, o.code, text)
		require.Contains(t, o.errors, why, text)
	}
}

func FuzzFromAxon(f *testing.F) {
	sample, err := os.ReadFile(filepath.Join("testdata", "axon.toml"))
	require.NoError(f, err)
	f.Add(sample)
	f.Add([]byte("bind = '[::]:1'\nnodes = []"))
	f.Fuzz(func(t *testing.T, text []byte) {
		out, _, err := fromAxon(text)
		if err == nil {
			require.Contains(t, string(out), "listeners:")
		}
	})
}

func TestAFirstTryNeedsNoNode(t *testing.T) {
	t.Parallel()
	p := start(t, nil, "gateway", "--mock-node", "--gateway.listen=127.0.0.1:0", "--gateway.listen_jsonrpc=127.0.0.1:0",
		"--nats.store_dir="+filepath.Join(t.TempDir(), "nats"))
	doors, ok := p.line("started", 1)["gateway"].(string)
	require.True(t, ok)
	_, addr, _ := strings.Cut(doors, "jsonrpc=")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}`))
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	var answer struct{ Result string }
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	require.Equal(t, "0x1", answer.Result)
	require.Equal(t, exitOK, p.stop())
}

// nodeBook keeps what is changed, or fails.
type nodeBook struct {
	err     error
	entries []gateway.Entry
}

func (s *nodeBook) Watch(context.Context, func([]gateway.Entry)) error { return s.err }

func (s *nodeBook) Add(_ context.Context, e gateway.Entry) error {
	s.entries = append(s.entries, e)
	return s.err
}

func (s *nodeBook) Remove(_ context.Context, uri string) error {
	s.entries = append(s.entries, gateway.Entry{URI: uri, Removed: true})
	return s.err
}
