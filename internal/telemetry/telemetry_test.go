package telemetry_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// admin runs an admin listener on a free port until the test ends and returns its URL and token.
func admin(t *testing.T, p telemetry.Pages) (url, token string) {
	t.Helper()
	_, url, token = runAdmin(t, p)
	return url, token
}

func runAdmin(t *testing.T, p telemetry.Pages) (a *telemetry.Admin, url, token string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data", "token")
	tok, err := telemetry.LoadToken(path)
	require.NoError(t, err)
	secret, err := os.ReadFile(path)
	require.NoError(t, err)
	a, err = telemetry.NewAdmin(telemetry.AdminConfig{Listen: "127.0.0.1:0"}, tok, p,
		telemetry.NewRegistry(telemetry.Build{Version: "v1"}), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		require.NoError(t, <-done)
	})
	return a, "http://" + (<-a.Bound()).String(), strings.TrimSpace(string(secret))
}

func call(t *testing.T, method, url string, change func(*http.Request)) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	if change != nil {
		change(req)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

func page(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, text+r.URL.Path) })
}

func TestPagesAreReplacedWhileTheListenerServes(t *testing.T) {
	a, url, token := runAdmin(t, telemetry.Pages{Checks: []telemetry.Check{
		{Name: "bus", Ready: func() error { return errors.New("recovering the store") }},
	}})
	status, text := call(t, http.MethodGet, url+"/readyz", nil)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "bus: recovering the store\n", text)
	status, _ = call(t, http.MethodGet, url+"/livez", nil)
	require.Equal(t, http.StatusOK, status)
	status, _ = call(t, http.MethodGet, url+"/targets", nil)
	require.Equal(t, http.StatusNotFound, status)

	a.Show(telemetry.Pages{Targets: page("targets"), RemoveTarget: page("remove")})
	status, _ = call(t, http.MethodGet, url+"/readyz", nil)
	require.Equal(t, http.StatusOK, status)
	_, text = call(t, http.MethodGet, url+"/targets", nil)
	require.Equal(t, "targets/targets", text)
	status, _ = call(t, http.MethodPost, url+"/targets/remove", nil)
	require.Equal(t, http.StatusUnauthorized, status)
	_, text = call(t, http.MethodPost, url+"/targets/remove", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) })
	require.Equal(t, "remove/targets/remove", text)
}

func TestReadyzGivesTheReasons(t *testing.T) {
	var bus error
	url, _ := admin(t, telemetry.Pages{Checks: []telemetry.Check{
		{Name: "bus", Ready: func() error { return bus }},
		{Name: "builder", Ready: func() error { return nil }},
	}})
	status, body := call(t, http.MethodGet, url+"/readyz", nil)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "OK\n", body)
	bus = errors.New("clock skew 600ms")
	status, body = call(t, http.MethodGet, url+"/readyz", nil)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "bus: clock skew 600ms\n", body)
	status, body = call(t, http.MethodGet, url+"/readyz?verbose", nil)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.JSONEq(t, `{"ready":false,"checks":{"bus":"clock skew 600ms","builder":"ok"}}`, body)
	status, _ = call(t, http.MethodGet, url+"/livez", nil)
	require.Equal(t, http.StatusOK, status, "alive although not ready")
}

func TestWritesNeedTheToken(t *testing.T) {
	reloads, fail := 0, error(nil)
	url, token := admin(t, telemetry.Pages{Reload: func(context.Context) error { reloads++; return fail }})
	bearer := func(s string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+s) }
	}
	for _, change := range []func(*http.Request){nil, bearer(""), bearer("guess"), bearer(token + "x")} {
		status, _ := call(t, http.MethodPost, url+"/reload", change)
		require.Equal(t, http.StatusUnauthorized, status)
	}
	require.Zero(t, reloads)
	status, _ := call(t, http.MethodPost, url+"/reload", bearer(token))
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, 1, reloads)
	fail = errors.New("unknown key x")
	status, body := call(t, http.MethodPost, url+"/reload", bearer(token))
	require.Equal(t, http.StatusUnprocessableEntity, status)
	require.Equal(t, "unknown key x\n", body)
	status, _ = call(t, http.MethodGet, url+"/reload", bearer(token))
	require.Equal(t, http.StatusMethodNotAllowed, status)
}

func TestReadsAreOpenOnLoopbackOnlyUnderALoopbackName(t *testing.T) {
	url, token := admin(t, telemetry.Pages{Ledger: page("ledger"), NATS: page("nats")})
	status, body := call(t, http.MethodGet, url+"/ledger", nil)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "ledger/ledger", body)
	_, body = call(t, http.MethodGet, url+"/nats/varz", nil)
	require.Equal(t, "nats/varz", body)
	rebound := func(r *http.Request) { r.Host = "evil.example" }
	for _, path := range []string{"/ledger", "/nats/varz", "/debug/pprof/", "/debug/pprof/cmdline"} {
		status, _ = call(t, http.MethodGet, url+path, rebound)
		require.Equal(t, http.StatusUnauthorized, status, path)
		status, _ = call(t, http.MethodGet, url+path, func(r *http.Request) {
			rebound(r)
			r.Header.Set("Authorization", "Bearer "+token)
		})
		require.Equal(t, http.StatusOK, status, path)
	}
}

func TestMetricsHaveBuildRuntimeAndProcess(t *testing.T) {
	url, _ := admin(t, telemetry.Pages{})
	status, body := call(t, http.MethodGet, url+"/metrics", nil)
	require.Equal(t, http.StatusOK, status)
	for _, name := range []string{"millrace_build_info{", "go_goroutines ", "process_resident_memory_bytes "} {
		require.Contains(t, body, name)
	}
	for _, path := range []string{"/ledger", "/nats/varz", "/reload"} {
		status, _ = call(t, http.MethodGet, url+path, nil)
		require.Equal(t, http.StatusNotFound, status, path)
	}
}

func TestMetricNamesPassPrometheusLint(t *testing.T) {
	problems, err := testutil.GatherAndLint(telemetry.NewRegistry(telemetry.Build{}), "millrace_build_info")
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestAdminPortInUseIsAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	a, err := telemetry.NewAdmin(telemetry.AdminConfig{Listen: l.Addr().String()}, telemetry.Token{}, telemetry.Pages{},
		telemetry.NewRegistry(telemetry.Build{}), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.ErrorContains(t, a.Run(t.Context()), "address already in use")
}

func TestTokenIsMadeOnceAndKeptPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "token")
	a, err := telemetry.LoadToken(path)
	require.NoError(t, err)
	b, err := telemetry.LoadToken(path)
	require.NoError(t, err)
	require.Equal(t, a, b)
	fi, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), fi.Mode().Perm())
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, left, 1, "no temporary file stays")
	require.NoError(t, os.WriteFile(path, []byte("\n"), 0o600))
	_, err = telemetry.LoadToken(path)
	require.ErrorContains(t, err, "is empty")
}

func TestZeroTokenAllowsNobody(t *testing.T) {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer ")
	require.False(t, telemetry.Token{}.Allows(r))
}

func TestLogFormatsAndLevel(t *testing.T) {
	var b bytes.Buffer
	l, err := telemetry.NewLog(&b, telemetry.LogConfig{Level: "warn", Format: "json"})
	require.NoError(t, err)
	l.Info("hidden")
	l.Warn("shown")
	l.SetLevel("debug")
	l.SetLevel("nonsense")
	l.Debug("now shown")
	require.NotContains(t, b.String(), "hidden")
	require.Contains(t, b.String(), `"msg":"shown"`)
	require.Contains(t, b.String(), "now shown")

	b.Reset()
	l, err = telemetry.NewLog(&b, telemetry.LogConfig{Level: "info", Format: "text"})
	require.NoError(t, err)
	l.Info("hello")
	require.Regexp(t, `^time=\d\d:\d\d:\d\d\.\d{3} level=INFO msg=hello\n$`, b.String())

	_, err = telemetry.NewLog(&b, telemetry.LogConfig{Level: "loud", Format: "json"})
	require.ErrorContains(t, err, "log.level")
	_, err = telemetry.NewLog(&b, telemetry.LogConfig{Level: "info", Format: "xml"})
	require.ErrorContains(t, err, "log.format")
}

func TestConfigFaultsAreReported(t *testing.T) {
	require.ErrorContains(t, telemetry.AdminConfig{Listen: "nowhere"}.Validate(), "admin.listen")
}
