package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRolesInSeparateProcessesOverTCP(t *testing.T) {
	t.Parallel()
	dir, builder := t.TempDir(), newBuilder(t)
	addr := freeAddr(t)
	server := start(t, nil, "bus", "--nats.store_dir="+filepath.Join(dir, "nats"), "--nats.listen="+addr)
	server.line("started", 1)
	auth := filepath.Join(dir, "auth")
	role := func(cmd string, more ...string) *proc {
		t.Helper()
		p := start(t, nil, append([]string{
			cmd, "--nats.url=nats://" + addr, "--nats.creds=" + filepath.Join(auth, "role.nk"),
			"--nats.store_dir=" + filepath.Join(t.TempDir(), "nats"), "--builder.url=" + builder.URL,
		}, more...)...)
		p.line("started", 1)
		return p
	}
	worker := role("worker", "--worker.signer_cache.secret=0123456789abcdef0123456789abcdef")
	delivery := role("egress")
	door := role("ingress", "--ingress.listen=127.0.0.1:0")

	s := newSender(t)
	hash := s.accepted(t, door.url("ingress"))
	eventually(t, "the builder gets it", func() bool { return len(builder.got()) == 1 })
	for _, p := range []*proc{server, delivery, door} { // any process of the pipeline shows the ledger
		eventually(t, "delivered", func() bool {
			rs := records(t, p.url("admin"), "--hash", hash)
			return len(rs) == 1 && rs[0].Outcome == "delivered"
		})
	}
	// A sender asks its door, which asks who has the index.
	ask := []byte(`{"jsonrpc":"2.0","id":1,"method":"millrace_orderStatus","params":["` + hash + `"]}`)
	eventually(t, "its sender is told", func() bool {
		_, _, answer := s.send(t, door.url("ingress"), ask)
		return strings.Contains(answer, `"status":"delivered"`)
	})
	_, _, theirs := newSender(t).send(t, door.url("ingress"), ask)
	require.JSONEq(t, `{"jsonrpc":"2.0","id":1,"result":null}`, theirs)

	for _, p := range []*proc{server, worker, delivery, door} {
		eventually(t, "ready", func() bool {
			status, _ := get(t, p.url("admin")+"/readyz")
			return status == http.StatusOK
		})
	}

	// A role has no right to change streams; the administrator's plan has nothing to do.
	o := call(t, "", nil, "streams", "plan", "--nats.url=nats://"+addr, "--nats.creds="+filepath.Join(auth, "admin.nk"), "--log.level=error")
	require.Equal(t, exitOK, o.code, o.errors)
	require.Equal(t, "nothing to change\n", o.out)

	// Restarted one by one, the pipeline goes on.
	require.Equal(t, exitOK, worker.stop())
	role("worker")
	require.Equal(t, exitOK, delivery.stop())
	status, _, answer := s.send(t, door.url("ingress"), ask)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, answer, "-32000", "nobody is there who knows")
	role("egress")
	s.accepted(t, door.url("ingress"))
	eventually(t, "the builder gets the second", func() bool { return len(builder.got()) == 2 })
	require.Equal(t, exitOK, door.stop())
}

func TestBusAloneRefusesStrangers(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	start(t, nil, "bus", "--nats.store_dir="+filepath.Join(t.TempDir(), "nats"), "--nats.listen="+addr).line("started", 1)
	o := call(t, "", nil, "streams", "plan", "--nats.url=nats://"+addr)
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.errors, "bus: ")
}

func TestGatewaysShareTheQueuesThatTheirBusMakes(t *testing.T) {
	t.Parallel()
	dir, addr := t.TempDir(), freeAddr(t)
	start(t, nil, "bus", "--nats.store_dir="+filepath.Join(dir, "nats"), "--nats.listen="+addr, "--gateway.queue=shared").line("started", 1)
	calls := freeAddr(t)
	p := start(t, nil, "gateway", "--nats.url=nats://"+addr, "--nats.creds="+filepath.Join(dir, "auth", "role.nk"), "--gateway.queue=shared",
		"--nats.store_dir="+filepath.Join(t.TempDir(), "nats"), "--gateway.listen="+calls, "--gateway.listen_jsonrpc=", "--mock-node")
	p.line("started", 1)
	eventually(t, "a call goes over the bus", func() bool {
		resp, err := http.Post("http://"+calls, "application/json", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}`))
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		answer, _ := io.ReadAll(resp.Body)
		return strings.Contains(string(answer), `"0x1"`)
	})
	_, metrics := get(t, p.url("admin")+"/metrics")
	require.Regexp(t, `millrace_gateway_shared_served_total\{class="low"\} [1-9]`, metrics)
	require.NotContains(t, p.log.String(), "permissions violation")
}

func TestAGatewayKeepsItsNodesAtABusThatKnowsOfNone(t *testing.T) {
	t.Parallel()
	dir, addr := t.TempDir(), freeAddr(t)
	start(t, nil, "bus", "--nats.store_dir="+filepath.Join(dir, "nats"), "--nats.listen="+addr).line("started", 1)
	gateway := func(more ...string) *proc {
		p := start(t, nil, append([]string{
			"gateway", "--nats.url=nats://" + addr, "--nats.creds=" + filepath.Join(dir, "auth", "role.nk"),
			"--nats.store_dir=" + filepath.Join(dir, "nats"), "--gateway.listen=127.0.0.1:0", "--gateway.listen_jsonrpc=",
		}, more...)...)
		p.line("started", 1)
		return p
	}
	one, other := gateway("--mock-node"), gateway()
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":"1"}`)
	}))
	defer node.Close()
	eventually(t, "ready", func() bool {
		status, _ := get(t, one.url("admin")+"/readyz")
		return status == http.StatusOK
	})
	token := "--token-file=" + filepath.Join(dir, "admin.token")
	o := call(t, "", nil, "gateway", "nodes", "--admin="+one.url("admin"), token, "--add="+node.URL)
	require.Equal(t, exitOK, o.code, o.errors)
	require.Contains(t, o.out, strings.TrimPrefix(node.URL, "http://"))
	eventually(t, "the other one has it, too", func() bool {
		_, page := get(t, other.url("admin")+"/gateway")
		return strings.Contains(page, strings.TrimPrefix(node.URL, "http://"))
	})
	o = call(t, "", nil, "gateway", "nodes", "--admin="+other.url("admin"), token, "--remove="+node.URL)
	require.Equal(t, exitOK, o.code, o.errors)
	eventually(t, "it is gone", func() bool {
		_, page := get(t, one.url("admin")+"/gateway")
		return !strings.Contains(page, strings.TrimPrefix(node.URL, "http://"))
	})
}
