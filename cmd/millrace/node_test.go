package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// nodeArgs are those of a node on free ports with its store in dir.
func nodeArgs(dir string, more ...string) []string {
	return append([]string{"node", "--ingress.listen=127.0.0.1:0", "--nats.store_dir=" + filepath.Join(dir, "nats")}, more...)
}

func TestNodeDeliversASignedBundleAndAccountsForIt(t *testing.T) {
	t.Parallel()
	builder := newBuilder(t)
	p := start(t, nil, nodeArgs(t.TempDir(), "--builder.url="+builder.URL)...)
	s := newSender(t)
	hash := s.accepted(t, p.url("ingress"))
	eventually(t, "the builder gets the bundle", func() bool { return len(builder.got()) == 1 })
	body := builder.got()[0]
	require.Contains(t, body, `"note":"kept"`, "unknown fields arrive unchanged")
	require.Contains(t, body, `"signingAddress"`)
	require.Contains(t, body, hash)

	var rs []record
	eventually(t, "the ledger has its record", func() bool {
		rs = records(t, p.url("admin"), "--hash", hash)
		return len(rs) == 1
	})
	require.Equal(t, "delivered", rs[0].Outcome)
	require.Equal(t, "builder", rs[0].Target)
	require.Equal(t, uint16(1), rs[0].Attempts)

	o := call(t, "", nil, "ledger", "dump", "--admin", p.url("admin"))
	require.Equal(t, exitOK, o.code, o.errors)
	require.Contains(t, o.out, hash)
	require.Contains(t, o.out, "delivered")
	o = call(t, "", nil, "ledger", "verify", "--admin", p.url("admin"))
	require.Equal(t, exitOK, o.code, o.errors)
	require.Contains(t, o.out, "delivered       1")

	status, text := get(t, p.url("admin")+"/readyz")
	require.Equal(t, http.StatusOK, status, text)
	_, metrics := get(t, p.url("admin")+"/metrics")
	require.Contains(t, metrics, "millrace_build_info")
	status, _ = get(t, p.url("admin")+"/nats/varz")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, exitOK, p.stop())
	require.NotNil(t, p.log.find("stopped", 1))
}

func TestNodeWithoutConfigurationDeliversToItsStub(t *testing.T) {
	t.Parallel()
	p := start(t, nil, nodeArgs(t.TempDir())...)
	hash := newSender(t).accepted(t, p.url("ingress"))
	eventually(t, "delivered to the stub", func() bool {
		rs := records(t, p.url("admin"), "--hash", hash, "--target=stub")
		return len(rs) == 1 && rs[0].Outcome == "delivered"
	})
	_, counts := get(t, p.url("stub"))
	require.Contains(t, counts, `"orders":1`)
}

func TestRestartedNodeDeliversWhatItsPredecessorAccepted(t *testing.T) {
	t.Parallel()
	dir, builder, s := t.TempDir(), newBuilder(t), newSender(t)
	builder.status.Store(http.StatusServiceUnavailable)
	p := start(t, nil, nodeArgs(dir, "--builder.url="+builder.URL)...)
	hashes := []string{s.accepted(t, p.url("ingress")), s.accepted(t, p.url("ingress"))}
	require.Equal(t, exitOK, p.stop())
	require.Empty(t, builder.got())

	builder.status.Store(0)
	p = start(t, nil, nodeArgs(dir, "--builder.url="+builder.URL)...)
	for _, hash := range hashes {
		eventually(t, "delivered after the restart", func() bool {
			rs := records(t, p.url("admin"), "--hash", hash)
			return len(rs) == 1 && rs[0].Outcome == "delivered"
		})
	}
	require.Len(t, builder.got(), 2)
}

func TestRestartOfAStubNodeOnTheSameStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 2 {
		p := start(t, nil, nodeArgs(dir)...)
		hash := newSender(t).accepted(t, p.url("ingress"))
		eventually(t, "delivered", func() bool { return len(records(t, p.url("admin"), "--hash", hash)) == 1 })
		require.Equal(t, exitOK, p.stop())
	}
}

func TestStubIsTakenOutOfTheStoreWhenABuilderComes(t *testing.T) {
	t.Parallel()
	dir, builder := t.TempDir(), newBuilder(t)
	p := start(t, nil, nodeArgs(dir)...)
	hash := newSender(t).accepted(t, p.url("ingress"))
	eventually(t, "delivered", func() bool { return len(records(t, p.url("admin"), "--hash", hash)) == 1 })
	require.Equal(t, exitOK, p.stop())

	p = start(t, nil, nodeArgs(dir, "--builder.url="+builder.URL)...)
	eventually(t, "only the builder has consumers", func() bool {
		_, text := get(t, p.url("admin")+"/nats/jsz?consumers=true&streams=true")
		return !strings.Contains(text, "target-stub") && strings.Contains(text, "target-builder")
	})
	newSender(t).accepted(t, p.url("ingress"))
	eventually(t, "the builder gets it", func() bool { return len(builder.got()) > 0 })
	require.Len(t, records(t, p.url("admin"), "--hash", hash, "--target=stub"), 1, "the record of its delivery stays the only one")
}

func TestAdminPortInUseIsAFailure(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	var errs bytes.Buffer
	args := nodeArgs(t.TempDir(), "--admin.listen="+l.Addr().String())
	code := run(t.Context(), args, nil, strings.NewReader(""), io.Discard, &errs)
	require.Equal(t, exitFailure, code)
	require.Contains(t, errs.String(), "telemetry: admin: listen tcp")
}

func TestReadyzFollowsTheBuildersReadyEndpoint(t *testing.T) {
	t.Parallel()
	builder := newBuilder(t)
	p := start(t, []string{"BUILDER_ENDPOINT=" + builder.URL, "BUILDER_READY_ENDPOINT=" + builder.URL}, nodeArgs(t.TempDir())...)
	for _, status := range []int{http.StatusServiceUnavailable, 0} {
		builder.status.Store(int64(status))
		want := http.StatusOK
		if status != 0 {
			want = http.StatusServiceUnavailable
		}
		for _, listener := range []string{"ingress", "admin"} {
			eventually(t, "readyz follows", func() bool {
				got, _ := get(t, p.url(listener)+"/readyz")
				return got == want
			})
		}
		if status != 0 {
			_, text := get(t, p.url("admin")+"/readyz")
			require.Contains(t, text, "not ready")
		}
	}
}

func TestReloadAppliesWhatItCanNamesWhatItCannotAndRefusesFaults(t *testing.T) {
	first, second := newBuilder(t), newBuilder(t)
	write := func(path, builders, rest string) {
		tmp := path + ".tmp"
		require.NoError(t, os.WriteFile(tmp, []byte("builders:\n"+builders+rest), 0o600))
		require.NoError(t, os.Rename(tmp, path))
	}
	path := filepath.Join(t.TempDir(), "millrace.yaml")
	one := "  - {name: one, url: " + first.URL + "}\n"
	two := "  - {name: two, url: " + second.URL + "}\n"
	write(path, one, "")
	p := start(t, nil, nodeArgs(t.TempDir(), "--config="+path)...)
	s := newSender(t)
	s.accepted(t, p.url("ingress"))
	eventually(t, "the first builder gets the first", func() bool { return len(first.got()) == 1 })

	// By the watched file: a new builder, and a key that needs a restart.
	write(path, one+two, "orders:\n  max_txs: 50\ningress:\n  max_body: 4MiB\n")
	require.Equal(t, []any{"builders"}, p.line("reloaded", 1)["keys"])
	require.Equal(t, []any{"ingress.max_body", "orders.max_txs"}, p.line("changed keys need a restart", 1)["keys"])
	s.accepted(t, p.url("ingress"))
	eventually(t, "both builders get the second", func() bool { return len(first.got()) == 2 && len(second.got()) >= 1 })

	// A file with a fault changes nothing and says so.
	write(path, one, "ingres:\n  listen: x\n")
	refused := p.line("reload refused, the earlier configuration stays in force", 1)
	require.Contains(t, refused["error"], "unknown key ingres, did you mean")
	before := len(second.got())
	s.accepted(t, p.url("ingress"))
	eventually(t, "both are still there", func() bool { return len(first.got()) == 3 && len(second.got()) == before+1 })

	// So does one without any builder: what the builders are owed must not go with a lost line.
	write(path, "", "")
	require.Contains(t, p.line("reload refused, the earlier configuration stays in force", 2)["error"], "last builder")

	// By the admin listener, with the token.
	write(path, two, "log:\n  level: debug\n")
	token, err := os.ReadFile(filepath.Join(filepath.Dir(storeOf(p)), "admin.token"))
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url("admin")+"/reload", nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	eventually(t, "the first builder is gone", func() bool { return p.log.find("target being removed", 1) != nil })

	// And by SIGHUP.
	reloads := strings.Count(p.log.String(), `"msg":"reloaded"`)
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	p.line("reloaded", reloads+1)
}

// storeOf is the store directory of a running node.
func storeOf(p *proc) string { return filepath.Join(p.line("started", 1)["data"].(string), "nats") }

func TestLedgerPageFiltersAndRefusesNonsense(t *testing.T) {
	t.Parallel()
	p := start(t, nil, nodeArgs(t.TempDir())...)
	url := p.url("ingress")
	s := newSender(t)
	a, b := s.accepted(t, url), s.accepted(t, url)
	eventually(t, "both recorded", func() bool { return len(records(t, p.url("admin"))) == 2 })
	require.Len(t, records(t, p.url("admin"), "--hash", a), 1)
	require.Len(t, records(t, p.url("admin"), "--target", "stub"), 2)
	require.Empty(t, records(t, p.url("admin"), "--target", "*"))
	require.Empty(t, records(t, p.url("admin"), "--since", time.Now().Add(time.Hour).Format(time.RFC3339)))
	rs := records(t, p.url("admin"), "--hash", b)
	require.Len(t, records(t, p.url("admin"), "--hash", rs[0].ID), 1)
	require.Len(t, records(t, p.url("admin"), "--hash", rs[0].Accept), 1)
	status, _ := get(t, p.url("admin")+"/ledger?since=yesterday")
	require.Equal(t, http.StatusBadRequest, status)
}

func TestStartLineSaysWhatRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, []string{"CONN_PER_PEER=10"}, nodeArgs(dir, "--node.name=n1")...)
	line := p.line("started", 1)
	require.Equal(t, "ingress,worker,egress", line["roles"])
	require.Equal(t, "n1", line["node"])
	require.Equal(t, dir, line["data"])
	require.Equal(t, "CONN_PER_PEER", p.line("variable of a predecessor can't be honoured yet", 1)["name"])
	b, err := json.Marshal(line)
	require.NoError(t, err)
	require.Contains(t, string(b), `"stub"`)
}
