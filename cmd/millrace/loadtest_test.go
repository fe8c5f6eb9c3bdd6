package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLoadTestHasNoConfigurationKeys(t *testing.T) {
	o := call(t, "", nil, "loadtest", "run", "--help")
	require.Contains(t, o.out, "--sink_listen")
	for _, foreign := range []string{"--config", "--nats.", "--ingress.", "--log."} {
		require.NotContains(t, o.out, foreign)
	}
	// A file or a variable that a node would refuse does not matter here.
	o = call(t, "", []string{"MILLRACE_NONSENSE=1", "MILLRACE_CONFIG=/nowhere"}, "loadtest", "--rate=-1", "--duration=1ms")
	require.NotContains(t, o.errors, "MILLRACE")
}

func TestLoadTestOfANodeFindsNothingBroken(t *testing.T) {
	t.Parallel()
	sink := freeAddr(t)
	p := start(t, nil, "node", "--ingress.listen=127.0.0.1:0", "--nats.store_dir="+filepath.Join(t.TempDir(), "nats"), "--builder.url=http://"+sink)
	args := []string{
		"loadtest", "--url=" + p.url("ingress"), "--admin=" + p.url("admin"), "--sink", "--sink_listen=" + sink,
		"--rate=50", "--duration=300ms", "--connections=4", "--json",
	}
	o := call(t, "", nil, args...)
	require.Equal(t, exitOK, o.code, o.out+o.errors)
	require.True(t, json.Valid([]byte(o.out)), o.out)
	require.Contains(t, o.errors, "sink: http://"+sink)
}

func TestBrokenPromiseIsExitCodeOne(t *testing.T) {
	t.Parallel()
	// A door that takes everything and delivers nothing.
	liar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"bundleHash":"0x`+strings.Repeat("0", 64)+`"}}`)
	}))
	t.Cleanup(liar.Close)
	o := call(t, "", nil, "loadtest", "--url="+liar.URL, "--sink", "--sink_listen=127.0.0.1:0",
		"--rate=50", "--duration=100ms", "--connections=1", "--settle=1ms")
	require.Equal(t, exitFailure, o.code, o.out+o.errors)
	require.Contains(t, o.errors, "promises broken")
}

func TestSignalBreaksALoadTestOff(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out strings.Builder
	code := run(ctx, []string{"loadtest", "--url=http://" + freeAddr(t), "--duration=1h", "--rate=1"}, nil, strings.NewReader(""), io.Discard, &out)
	require.Equal(t, exitFailure, code)
	require.Contains(t, out.String(), "broken off")
}

func TestCompareMakesAPageThatReportMakesAgain(t *testing.T) {
	t.Parallel()
	door := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":null}`)
	}))
	t.Cleanup(door.Close)
	dir := t.TempDir()
	o := call(t, "", nil, "loadtest", "compare", "--target=a="+door.URL, "--target=b="+door.URL, "--pairs=1", "--warmup=0", "--pause=0",
		"--rate=100", "--duration=50ms", "--connections=2", "--html="+filepath.Join(dir, "a.html"), "--save="+filepath.Join(dir, "a.json"))
	require.Equal(t, exitOK, o.code, o.out+o.errors)
	require.Contains(t, o.out, "median of ratios")
	o = call(t, "", nil, "loadtest", "report", filepath.Join(dir, "a.json"), "--html="+filepath.Join(dir, "b.html"), "--svg="+filepath.Join(dir, "plots"))
	require.Equal(t, exitOK, o.code, o.out+o.errors)
	require.FileExists(t, filepath.Join(dir, "b.html"))
	require.FileExists(t, filepath.Join(dir, "plots", "bars.svg"))

	o = call(t, "", nil, "loadtest", "compare", "--target=a="+door.URL)
	require.Equal(t, exitUsage, o.code, o.out+o.errors)
	o = call(t, "", nil, "loadtest", "--ramp=5..1")
	require.Equal(t, exitUsage, o.code, o.out+o.errors)
}
