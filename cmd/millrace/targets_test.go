package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// namedBuilder is a configuration file with one builder.
func namedBuilder(t *testing.T, name, url string) string {
	t.Helper()
	return "--config=" + writeFile(t, "builders:\n  - name: "+name+"\n    url: "+url+"\n")
}

// listed is what targets list prints as JSON, by name.
func listed(t *testing.T, admin string) map[string]targetRow {
	t.Helper()
	o := call(t, "", nil, "targets", "list", "--json", "--admin="+admin)
	require.Equal(t, exitOK, o.code, o.errors)
	var rows []targetRow
	require.NoError(t, json.Unmarshal([]byte(o.out), &rows))
	m := map[string]targetRow{}
	for _, r := range rows {
		m[r.Name] = r
	}
	return m
}

func TestRule17TargetThatNobodyServesIsSeenAndRemovedWithItsRecords(t *testing.T) {
	t.Parallel()
	dir, gone, now := t.TempDir(), newBuilder(t), newBuilder(t)
	gone.status.Store(http.StatusServiceUnavailable)
	p := start(t, nil, nodeArgs(dir, namedBuilder(t, "gone", gone.URL))...)
	s := newSender(t)
	owed := []string{s.accepted(t, p.url("ingress")), s.accepted(t, p.url("ingress"))}
	eventually(t, "stored for the target", func() bool {
		r := listed(t, p.url("admin"))["gone"]
		return r.Served && r.Pending+uint64(r.AckPending) == 2
	})
	require.Equal(t, exitOK, p.stop())

	// Renamed while the node was stopped: nothing is deleted, but it is said.
	p = start(t, nil, nodeArgs(dir, namedBuilder(t, "now", now.URL))...)
	require.Equal(t, "gone", p.line("nobody serves a target that the streams hold orders for: configure it, or run `millrace targets remove`", 1)["target"])
	admin := p.url("admin")
	eventually(t, "the metric", func() bool {
		_, text := get(t, admin+"/metrics")
		return strings.Contains(text, "millrace_egress_unserved_targets 1")
	})
	eventually(t, "the new one is served", func() bool { return listed(t, admin)["now"].Served })
	left := listed(t, admin)["gone"]
	require.False(t, left.Served)
	require.Equal(t, uint64(2), left.Pending+uint64(left.AckPending))
	require.Positive(t, left.Oldest)
	o := call(t, "", nil, "targets", "list", "--admin="+admin)
	require.Regexp(t, `(?m)^gone +unserved +\d+ +\d+ +\S+s +\S+$`, o.out)

	token := "--token-file=" + filepath.Join(dir, "admin.token")
	remove := func(name string) output {
		return call(t, "", nil, "targets", "remove", name, "--admin="+admin, token)
	}
	o = remove("now")
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.errors, "409 Conflict: a process serves the target")
	o = remove("never")
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.errors, "404 Not Found")
	o = remove("gone")
	require.Equal(t, output{exitOK, "removed gone\n", ""}, o)
	require.NotContains(t, listed(t, admin), "gone")
	for _, hash := range owed {
		rs := records(t, admin, "--hash", hash, "--target=gone")
		require.Len(t, rs, 1)
		require.Equal(t, "target_removed", rs[0].Outcome)
	}
	require.Equal(t, exitOK, call(t, "", nil, "ledger", "verify", "--admin="+admin).code)
	eventually(t, "the rest goes on", func() bool {
		s.accepted(t, p.url("ingress"))
		return len(now.got()) > 0
	})
}

func TestRemovingATargetNeedsTheToken(t *testing.T) {
	dir := t.TempDir()
	p := start(t, nil, nodeArgs(dir)...)
	o := call(t, "", nil, "targets", "remove", "stub", "--admin="+p.url("admin"), "--token-file="+writeFile(t, "guess"))
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.errors, "remove target: 401")
	t.Chdir(t.TempDir())
	o = call(t, "", nil, "targets", "remove", "stub", "--admin="+p.url("admin"))
	require.Equal(t, exitUsage, o.code)
	require.Contains(t, o.errors, filepath.Join("data", "admin.token"))
}

func TestTargetNamesCannotSteerTheTerminal(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `[{"name":"a\u001b[2J","fingerprint":"f"}]`)
	}))
	defer srv.Close()
	o := call(t, "", nil, "targets", "list", "--admin="+srv.URL)
	require.Equal(t, exitOK, o.code, o.errors)
	require.NotContains(t, o.out, "\x1b")
	require.Contains(t, o.out, "unserved")
}

func TestTargetsNeedAnAnswerThatIsAList(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{") }))
	defer srv.Close()
	o := call(t, "", nil, "targets", "list", "--admin="+srv.URL)
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.errors, "list targets")
}

func TestProcessAnswersWhileItWaitsForItsBus(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	p := start(t, nil, "worker", "--nats.url=nats://someone:secret@"+addr, "--nats.store_dir="+filepath.Join(t.TempDir(), "nats"))
	line := p.line("starting", 1)
	admin := "http://" + line["admin"].(string)
	status, _ := get(t, admin+"/livez")
	require.Equal(t, http.StatusOK, status)
	status, text := get(t, admin+"/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, text, "bus: waiting for the bus at nats://")
	require.NotContains(t, text+p.log.String(), "secret")
	status, _ = get(t, admin+"/targets")
	require.Equal(t, http.StatusNotFound, status)
	p.line("waiting for the bus", 1)
	require.Equal(t, exitOK, p.stop(), "told to stop before it was up")
}

func TestStartThatFailsClosesTheAdminListener(t *testing.T) {
	var errs bytes.Buffer
	args := nodeArgs(t.TempDir(), "--admin.listen="+freeAddr(t), "--egress.orderflow_signer=nonsense")
	code := run(t.Context(), args, nil, strings.NewReader(""), io.Discard, &errs)
	require.NotEqual(t, exitOK, code, errs.String())
	require.NotContains(t, errs.String(), "nonsense")
}
