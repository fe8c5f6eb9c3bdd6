package deploy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/certificate/selfsigned"
	"millrace/internal/freeport"
)

// TestSeparateRolesServeAnOrderWithTheirOwnKeys runs the real binary's roles against a server with the
// generated configuration, each with the environment that was written for it, and then requires of
// the same processes every metric that rules and dashboard name.
func TestSeparateRolesServeAnOrderWithTheirOwnKeys(t *testing.T) {
	t.Parallel()
	site, door := t.TempDir(), freeAddr(t)
	port, err := freeport.Row(t.Context(), 1, 2000, 4000)
	require.NoError(t, err)
	command(t, "", millrace, "bus-config", "--out", site, "--port", strconv.Itoa(port), "--store-dir", t.TempDir())
	natsServer(t, filepath.Join(site, "nats.conf"))
	apply(t, site)

	orders := make(chan string, 1)
	builder := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if strings.Contains(string(b), "eth_sendBundle") {
			orders <- string(b)
		}
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
	}))
	t.Cleanup(builder.Close)
	env := func(name string) string { return filepath.Join(site, name+".env") }
	roles := []role{
		start(t, "worker", env("worker")),
		start(t, "egress", env("egress"), "--builder.url="+builder.URL),
		start(t, "ingress", env("ingress"), "--ingress.listen="+door),
	}
	require.Contains(t, send(t, door), readmeHash)
	await(t, "the builder gets it", func() bool { return len(orders) > 0 })
	require.Contains(t, <-orders, "signingAddress")
	await(t, "its record", func() bool {
		_, out := get("http://" + roles[1].admin + "/ledger?hash=" + readmeHash)
		return strings.Contains(out, `"outcome":"delivered"`)
	})

	// A gateway beside them, with the queues that gateways share.
	calls := freeAddr(t)
	roles = append(roles, start(t, "gateway", env("gateway"), "--mock-node", "--gateway.queue=shared", "--gateway.listen=", "--gateway.listen_jsonrpc="+calls))
	require.Contains(t, ask(t, calls), `"result":"0x1"`)

	// A node has what a role against an external server has not: the disk guard, and peers.
	roles = append(roles, start(t, "node", "", append(peerFlags(t), "--ingress.listen="+freeAddr(t), "--builder.url="+builder.URL)...))
	await(t, "a first look at the consumers", func() bool {
		_, text := get("http://" + roles[0].admin + "/metrics")
		return strings.Contains(text, "millrace_bus_consumer_pending{")
	})
	await(t, "a first look at the peers", func() bool {
		_, text := get("http://" + roles[len(roles)-1].admin + "/metrics")
		return strings.Contains(text, "millrace_peers_connected{")
	})
	var all string
	for _, r := range roles {
		status, text := get("http://" + r.admin + "/metrics")
		require.Equal(t, http.StatusOK, status)
		for _, fault := range regexp.MustCompile(`millrace_bus_connection_faults_total\{[^}]*\} (\S+)`).FindAllStringSubmatch(text, -1) {
			require.Equal(t, "0", fault[1], "%s: %s", r.name, fault[0])
		}
		all += text
	}
	requireMetrics(t, all)
}

// peerFlags give a node a peer that is not there.
func peerFlags(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	cert, key := selfsigned.Write(t, dir, 1)
	file := filepath.Join(dir, "peers.yaml")
	require.NoError(t, os.WriteFile(file, []byte("peers: [{name: beta, address: '127.0.0.1:1', transport: leafnode, pins: ["+strings.Repeat("ab", 32)+"]}]\n"), 0o600))
	return []string{
		"--peers.name=alpha", "--peers.listen=" + freeAddr(t), "--peers.tls.cert=" + cert, "--peers.tls.key=" + key, "--peers.file=" + file,
		"--peers.system.listen=" + freeAddr(t), "--peers.system.tls.cert=" + cert, "--peers.system.tls.key=" + key,
	}
}

// ask calls a gateway.
func ask(t *testing.T, addr string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}`))
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(b)
}

func apply(t *testing.T, site string) {
	t.Helper()
	var admin []string
	for _, kv := range environment(t, filepath.Join(site, "admin.env")) {
		key, value, _ := strings.Cut(strings.TrimPrefix(kv, "MILLRACE_"), "=")
		admin = append(admin, "--"+strings.Replace(strings.ToLower(key), "_", ".", 1)+"="+value)
	}
	small := []string{"--record.orders.max_bytes=64MiB", "--record.ledger.max_bytes=64MiB", "--streams.in.max_bytes=64MiB", "--streams.ok.max_bytes=64MiB"}
	out := command(t, "", millrace, append(append([]string{"streams", "apply"}, admin...), small...)...)
	require.Contains(t, out, "IN_HIGH")
}

// series matches a metric's name in an expression.
var series = regexp.MustCompile(`\b(millrace|process|go)_[a-z0-9_]+\b`)

// requireMetrics checks the names, and the labels that are selected by, of everything that asks Prometheus.
func requireMetrics(t *testing.T, exposed string) {
	t.Helper()
	known := map[string]bool{}
	for line := range strings.Lines(exposed) {
		if name := series.FindString(line); name != "" && !strings.HasPrefix(line, "#") {
			known[name] = true
		}
	}
	require.Greater(t, len(known), 80)
	for file, expressions := range map[string][]string{
		"prometheus/millrace.rules.yml": ruleExpressions(t), "grafana/millrace.json": dashboardExpressions(t),
	} {
		require.NotEmpty(t, expressions)
		for _, e := range expressions {
			for _, name := range series.FindAllString(e, -1) {
				require.True(t, known[name], "%s: no process has %s", file, name)
			}
			for _, m := range regexp.MustCompile(`(millrace_[a-z0-9_]+)\{([^}]*)\}`).FindAllStringSubmatch(e, -1) {
				requireLabels(t, file, exposed, m[1], m[2])
			}
		}
	}
}

// requireLabels checks that some series of the name has each label, with a value that is asked for.
func requireLabels(t *testing.T, file, exposed, name, matchers string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`([a-z_]+)(=~?)"([^"]*)"`).FindAllStringSubmatch(matchers, -1) {
		label, value := m[1], m[3]
		if label == "instance" { // Prometheus adds it
			continue
		}
		if strings.HasPrefix(value, "$") {
			value = ".*"
		}
		want := regexp.MustCompile(`(?m)^` + name + `\{[^}]*\b` + label + `="(` + value + `)"`)
		require.Regexp(t, want, exposed, "%s: %s{%s}", file, name, matchers)
	}
}
