package main

import (
	"bufio"
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus"
	"millrace/internal/bus/enginelog"
	"millrace/internal/engineapi"
	calls "millrace/internal/engineapi/record"
	"millrace/subjects"
)

func TestCallsThatTheNumbersPassOverAreMissing(t *testing.T) {
	r := callRows{whole: true}
	missing := func(epoch, sequence uint64) string {
		l, lost := r.next(calls.ID{Epoch: epoch, Sequence: sequence})
		if !lost {
			return ""
		}
		line, err := l.AppendTo(nil)
		require.NoError(t, err)
		return strings.TrimSpace(string(line))
	}
	require.JSONEq(t, `{"lost":{"reason":"not_stored","what":"request","epoch":3,"from":1,"to":1}}`, missing(3, 2))
	require.Empty(t, missing(3, 3))
	require.Empty(t, missing(3, 3), "stored twice")
	require.Empty(t, missing(4, 1))
	require.JSONEq(t, `{"lost":{"reason":"not_stored","what":"request","epoch":3,"from":4,"to":8}}`, missing(3, 9), "another door that drains its spool")
	r.pass(calls.Lost{Epoch: 4, From: 2, To: 2})
	require.Empty(t, missing(4, 3), "what was told once")
	r.pass(calls.Lost{Reason: "retention", From: 100, To: 200})
	require.Empty(t, missing(4, 50), "how many the stretch had is not known")
	require.JSONEq(t, `{"lost":{"reason":"not_stored","what":"request","epoch":5,"from":1,"to":2}}`, missing(5, 3))
	for epoch := uint64(6); epoch < 3*maxRows; epoch++ {
		require.Empty(t, missing(epoch, 1))
	}
	require.LessOrEqual(t, len(r.last), maxRows)
}

// lossyStore is a store whose record lacks calls 3 and 4, and its oldest two entries, of call 1.
func lossyStore(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "nats")
	log := quiet(t).Logger
	c := &Config{}
	c.Engine.Door.Primary = "http://127.0.0.1:1"
	c.Record.Engine.MaxAge, c.Record.Engine.MaxBytes = time.Hour, 64<<20
	b, err := bus.Dial(t.Context(), bus.Config{StoreDir: dir, Sync: bus.SyncInterval, Replicas: 1, MaxStore: 1 << 30}, c.topology(), log, prometheus.NewRegistry())
	require.NoError(t, err)
	defer b.Close()
	rec, err := enginelog.New(enginelog.Config{SpoolDir: filepath.Join(t.TempDir(), "spool"), SpoolMax: 1 << 20}, b, log, prometheus.NewRegistry())
	require.NoError(t, err)
	done := startEarly(t.Context(), rec.Run)
	for _, n := range []uint64{1, 2, 5, 6} {
		id := calls.ID{Epoch: 1, Sequence: n}
		rec.Request(&calls.Request{ID: id, Received: time.Now(), Method: "eth_chainId", Class: engineapi.ClassRead, Raw: []byte(`{"id":1,"method":"eth_chainId"}`)})
		rec.Outcome(&calls.Outcome{ID: id, Method: "eth_chainId", HTTPStatus: 200})
	}
	require.NoError(t, rec.Settled(t.Context()))
	require.NoError(t, done.stop())
	js, err := b.EngineState()
	require.NoError(t, err)
	s, err := js.Stream(t.Context(), subjects.StreamEngine)
	require.NoError(t, err)
	for seq := uint64(1); seq <= 2; seq++ {
		require.NoError(t, s.DeleteMsg(t.Context(), seq))
	}
	return dir
}

func TestAnExportSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	dir := lossyStore(t)
	o := call(t, "", nil, "engine", "export", "--store="+dir, "--from=1h")
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.errors, "3 calls written, 0 of them without an answer; 2 calls and 1 stretches of the record lost")
	lines := strings.Split(strings.TrimSpace(o.out), "\n")
	require.Len(t, lines, 5, o.out)
	require.JSONEq(t, `{"lost":{"reason":"retention","from":1,"to":2}}`, lines[0])
	require.JSONEq(t, `{"lost":{"reason":"not_stored","what":"request","epoch":1,"from":3,"to":4}}`, lines[2])

	// Reading it again, and importing it, knows what is missing.
	file := filepath.Join(t.TempDir(), "lossy.jsonl")
	require.NoError(t, os.WriteFile(file, []byte(o.out), 0o600))
	again := call(t, "", nil, "engine", "export", "--file="+file)
	require.Equal(t, exitFailure, again.code)
	require.Contains(t, again.errors, "2 calls and 1 stretches of the record lost")
	o = call(t, "", nil, "engine", "import", "--nats.store_dir="+filepath.Join(t.TempDir(), "nats"), "--engine.spool_dir="+filepath.Join(t.TempDir(), "spool"), file)
	require.Equal(t, exitOK, o.code, o.errors)
	require.Contains(t, o.out, "3 calls imported")
	require.Contains(t, o.errors, "2 calls and 1 stretches of the record lost")
}

func TestAnExportOfAllThatThereIsLacksNothing(t *testing.T) {
	var out bytes.Buffer
	w := &captureWriter{out: bufio.NewWriter(&out), open: map[calls.ID]*calls.Request{}}
	w.rows.whole = true
	for n := uint64(1); n <= 2*maxAwaited; n++ {
		id := calls.ID{Epoch: 1, Sequence: n}
		require.NoError(t, w.add(calls.Entry{Request: &calls.Request{ID: id, Raw: []byte(`{}`)}}))
		if n != 7 {
			require.NoError(t, w.add(calls.Entry{Outcome: &calls.Outcome{ID: id, HTTPStatus: 200}}))
		}
	}
	require.NoError(t, w.rest())
	require.True(t, w.missing.none())
	require.Equal(t, 1, w.unanswered)
	require.EqualValues(t, 2*maxAwaited, w.seq)
}

func TestWhatAPageSaysIsMissingIsMissing(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("span") {
			writeJSON(w, engineSpan{First: 1, Last: 9})
			return
		}
		writeJSON(w, engineLine{Stream: 4, Lost: &calls.Lost{Reason: "parts", What: "request", Epoch: 1, From: 2, To: 2}})
	}))
	t.Cleanup(srv.Close)
	o := call(t, "", nil, "engine", "export", "--admin="+srv.URL)
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.errors, "1 calls and 0 stretches of the record lost")
	require.JSONEq(t, `{"lost":{"reason":"parts","what":"request","epoch":1,"from":2,"to":2}}`, o.out)
}
