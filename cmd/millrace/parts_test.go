package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/egress"
	"millrace/egress/builder"
	"millrace/internal/bus"
	"millrace/internal/telemetry"
)

func TestEarlyPartOutlivesTheContextOfTheStart(t *testing.T) {
	starting, cancel := context.WithCancel(t.Context())
	e := startEarly(starting, func(ctx context.Context) error {
		<-ctx.Done()
		return errors.New("told to stop")
	})
	cancel()
	select {
	case <-e.done:
		require.Fail(t, "ended with the context of the start")
	case <-time.After(10 * time.Millisecond): // nothing to wait for: it must not happen
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	require.EqualError(t, e.Run(ctx), "told to stop")
}

func TestEarlyPartThatEndsByItselfEndsItsComponent(t *testing.T) {
	boom := errors.New("boom")
	e := startEarly(t.Context(), func(context.Context) error { return boom })
	require.ErrorIs(t, e.Run(t.Context()), boom)
	require.ErrorIs(t, e.stop(), boom)
}

func TestProcessThatStartsSaysWhatItWaitsFor(t *testing.T) {
	p := &process{cfg: &Config{NATS: bus.Config{StoreDir: "/var/lib/millrace/nats"}}}
	require.ErrorIs(t, p.starting(), errRecovering)
	require.EqualError(t, p.starting(), "recovering the store in /var/lib/millrace/nats")
	p.cfg.NATS.URL = "nats://user:secret@bus:4222"
	require.ErrorIs(t, p.starting(), errWaiting)
	require.EqualError(t, p.starting(), "waiting for the bus at nats://********@bus:4222")
}

func TestNodeWithoutARoomForItsTokenDoesNotStart(t *testing.T) {
	file := writeFile(t, "in the way")
	o := call(t, "", nil, nodeArgs(t.TempDir(), "--admin.token_file="+filepath.Join(file, "token"))...)
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.errors, "admin token")
}

func TestSecondNodeOnOneStoreIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, nil, nodeArgs(dir)...).line("started", 1)
	o := call(t, "", nil, append(nodeArgs(dir), "--admin.listen=127.0.0.1:0")...)
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.errors, "start embedded server")
}

func TestEveryFaultOfTheSharedKeysIsNamed(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{
		"--orders.max_age=2h":             "orders.max_age: 2h0m0s is not between 1s and 1h",
		"--orders.max_txs=0":              "orders.max_txs: 0 is not positive",
		"--orders.chain_id=0":             "orders.chain_id: must not be 0",
		"--orders.partitions=0":           "orders.partitions: 0 is not between",
		"--streams.in.max_bytes=1KiB":     "streams.in.max_bytes: 1024 is less than 1048576",
		"--streams.ok.max_bytes=0":        "streams.ok.max_bytes: 0 is less than 1048576",
		"--record.orders.max_bytes=-1":    "record.orders.max_bytes",
		"--record.orders.max_age=-1s":     "record.orders.max_age: negative",
		"--record.ledger.max_bytes=1":     "record.ledger.max_bytes: 1 is less than",
		"--runtime.gogc=1":                "runtime.gogc must be at least 10",
		"--admin.listen=nowhere":          "admin.listen",
		"--log.format=xml":                "log.format",
		"--egress.in_flight=1":            "egress.in_flight: 1 is not between",
		"--nats.sync=sometimes":           "nats.sync",
		"--worker.signer_cache.secret=no": "signer cache secret: shorter",
	} {
		a := &app{stdout: io.Discard, stderr: io.Discard}
		p, err := a.parse([]string{"node", arg})
		if err == nil {
			err = p.settings.Keys.fit(roleNode)
		}
		require.ErrorContains(t, err, want, arg)
	}
}

func TestFaultsOfTheAdminListenerOfCommandsAreNamed(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"ledger", "dump"}, {"ledger", "verify"}, {"targets", "list"}} {
		o := call(t, "", nil, append(args, "--admin=http://"+freeAddr(t))...)
		require.Equal(t, exitFailure, o.code)
		require.Contains(t, o.errors, "is millrace running there?")
		o = call(t, "", nil, append(args, "--admin=://")...)
		require.Equal(t, exitUsage, o.code)
		o = call(t, "", nil, append(args, "--token-file="+filepath.Join(t.TempDir(), "none"))...)
		require.Equal(t, exitUsage, o.code)
	}
}

func TestNobodyTakesNothing(t *testing.T) {
	r := nobody{"gone for good"}.Send(t.Context(), egress.Attempt{})
	require.Equal(t, egress.Result{Verdict: egress.Unreachable, Text: "gone for good"}, r)
	require.Equal(t, stubName, retiredStub().Fingerprint)
}

func TestDeliveryServesItsBuildersAndTheStubThatRetires(t *testing.T) {
	d := &delivery{to: []egress.Destination{{Name: "b", Fingerprint: "f"}}}
	require.Len(t, d.serves(), 1)
	d.retiring = "mark"
	require.Equal(t, []string{"b", stubName}, []string{d.serves()[0].Name, d.serves()[1].Name})
	require.Len(t, d.to, 1, "not changed")
}

func TestOneRemovalAtATime(t *testing.T) {
	p := &process{cfg: &Config{}, roles: roleIngress, reg: prometheus.NewRegistry(), log: quiet(t)}
	ts := newTargets(p)
	require.Nil(t, ts.unserved, "only who delivers counts them")
	ts.removing.Lock()
	answer := httptest.NewRecorder()
	ts.removePage().ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/targets/remove?name=x", nil))
	require.Equal(t, http.StatusConflict, answer.Code)
	require.Equal(t, errRemoving.Error()+"\n", answer.Body.String())
	ts.removing.Unlock()

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, ts.Run(ctx))
	require.ErrorIs(t, ts.remove(t.Context(), "x"), errRemoving, "none after the end")
	require.Error(t, ts.alive.Err())
}

func TestFirstResultOfARemovalCounts(t *testing.T) {
	c, first := make(chan error, 1), errors.New("first")
	require.ErrorIs(t, tell(c, first), first)
	require.NoError(t, tell(c, nil))
	require.ErrorIs(t, <-c, first)
}

func TestTargetIsServedWhileAnybodyHoldsItOrPulls(t *testing.T) {
	require.False(t, served(bus.TargetState{Pending: 7}))
	require.True(t, served(bus.TargetState{Held: true}))
	require.True(t, served(bus.TargetState{Pulls: 1}))
}

func TestWordsOfThePredecessorsAreTranslated(t *testing.T) {
	for in, want := range map[string]string{
		"DEBUG": "debug", "info": "info", "warn": "warn", "error": "error", "trace": "debug", "hyper=info,warn": "", "off": "",
	} {
		got, err := rustLevel(in)
		require.NoError(t, err)
		require.Equal(t, want, got, in)
	}
	for in, want := range map[string]string{"0": "", "-3": "", "12": "true"} {
		got, err := ifPositive(in)
		require.NoError(t, err)
		require.Equal(t, want, got, in)
	}
	_, err := ifPositive("many")
	require.Error(t, err)
	got, err := unlessZero("0")
	require.NoError(t, err)
	require.Empty(t, got)
	got, err = ifTrue("json")("false")
	require.NoError(t, err)
	require.Empty(t, got)
	_, err = ifTrue("json")("perhaps")
	require.ErrorContains(t, err, "neither true nor false")
}

func TestLoopbackIsThisMachineOnly(t *testing.T) {
	for addr, want := range map[string]bool{
		"": true, "127.0.0.1:80": true, "127.8.8.8:80": true, "[::1]:80": true, "localhost:80": true,
		":80": false, "0.0.0.0:80": false, "[::]:80": false, "example.org:80": false, "127.0.0.1": false, "10.0.0.1:80": false,
	} {
		require.Equal(t, want, loopback(addr), addr)
	}
}

func TestUsageMarksAnErrorOnce(t *testing.T) {
	require.NoError(t, usage(nil))
	err := usage(errors.New("fault"))
	require.ErrorIs(t, err, errUsage)
	require.Equal(t, err, usage(err))
	require.Equal(t, "exit 3", exitCode(3).Error())
}

func TestEachPartOfALastBuilderReloadIsRefusedBeforeItChangesAnything(t *testing.T) {
	d := &delivery{dispatcher: &egress.Dispatcher{}, cfg: builder.Config{Builder: builder.Short{URL: "http://b"}}}
	before := d.cfg
	require.ErrorIs(t, d.reload(&Config{}), errLastBuilder)
	require.Equal(t, before, d.cfg)
}

// quiet is a log that nobody reads.
func quiet(t *testing.T) *telemetry.Log {
	t.Helper()
	l, err := telemetry.NewLog(&strings.Builder{}, telemetry.LogConfig{Level: "error", Format: "json"})
	require.NoError(t, err)
	return l
}
