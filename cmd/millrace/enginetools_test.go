package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
	"millrace/internal/engineapi"
	calls "millrace/internal/engineapi/record"
)

// I14: the capture, imported and replayed to a fresh client with another secret.
func TestInvariant14ACaptureIsImportedAndReplayedWithoutAMismatch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store, spool := "--nats.store_dir="+filepath.Join(dir, "nats"), "--engine.spool_dir="+filepath.Join(dir, "engine")
	o := call(t, "", nil, "engine", "import", store, spool, captureFile)
	require.Equal(t, exitOK, o.code, o.errors)
	require.Contains(t, o.out, "53 calls imported")

	o = call(t, "", nil, "engine", "export", "--store="+filepath.Join(dir, "nats"))
	require.Equal(t, exitOK, o.code, o.errors)
	require.Equal(t, 53, strings.Count(o.out, "\n"))
	require.NotContains(t, o.out, "eyJ")

	for _, mode := range []string{"verbatim", "path", "payload-only"} {
		fresh := newEL(t, 9, eltest.Config{})
		out := filepath.Join(t.TempDir(), "out.jsonl")
		o = call(t, "", nil, "replay", "engine", "--store="+filepath.Join(dir, "nats"), "--mode="+mode, "--to="+fresh.URL(), "--jwt-secret="+fresh.file, "--out="+out, "--json")
		require.Equal(t, exitOK, o.code, o.errors)
		var sum struct {
			Classes map[string]int `json:"classes"`
			Number  uint64         `json:"number"`
		}
		require.NoError(t, json.Unmarshal([]byte(o.out), &sum), o.out)
		for class, n := range sum.Classes {
			require.True(t, class == "ok" || class == "not_compared" || n == 0, o.out)
		}
		require.Equal(t, uint64(12), fresh.Head().Number)
		lines, err := os.ReadFile(out)
		require.NoError(t, err)
		require.NotZero(t, bytes.Count(lines, []byte("\n")))
	}
}

func TestAReplayToTheWrongChainWritesNothing(t *testing.T) {
	fresh := newEL(t, 9, eltest.Config{ChainID: 5})
	o := call(t, "", nil, "replay", "engine", "--file="+captureFile, "--to="+fresh.URL(), "--jwt-secret="+fresh.file,
		"--chain-id=770077", "--genesis="+eltest.GenesisBlock.Hash.Hex())
	require.Equal(t, exitFailure, o.code)
	require.Contains(t, o.errors, "another chain")
	require.Empty(t, fresh.CallsOf(engineapi.ClassReplay, engineapi.ClassForkchoice))
}

func TestTheDriveCommandDrives(t *testing.T) {
	t.Parallel()
	fresh := newEL(t, 9, eltest.Config{})
	o := call(t, "", nil, "engine", "drive", "--to="+fresh.URL(), "--jwt-secret="+fresh.file, "--genesis=../../internal/eltest/testdata/genesis-mini.json", "--slots=12", "--every=1ms", "--random")
	require.Equal(t, exitOK, o.code, o.errors)
	require.Equal(t, 12, strings.Count(o.out, "slot "))
	require.NotZero(t, fresh.Head().Number)
}

// Captures that were put one behind the other have the same numbers, and are more than the spool holds.
func TestAnImportThatExceedsTheSpoolStoresEveryCall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	capture, err := os.ReadFile(captureFile)
	require.NoError(t, err)
	const copies = 40
	file := filepath.Join(dir, "many.jsonl")
	require.NoError(t, os.WriteFile(file, bytes.Repeat(capture, copies), 0o600))
	args := []string{"engine", "import", "--nats.store_dir=" + filepath.Join(dir, "nats"), "--engine.spool_dir=" + filepath.Join(dir, "engine"), "--engine.spool_max=1MiB"}
	for range 2 {
		o := call(t, "", nil, append(args, file)...)
		require.Equal(t, exitOK, o.code, o.errors)
		require.Contains(t, o.out, "2120 calls imported")
	}
	o := call(t, "", nil, "engine", "export", "--store="+filepath.Join(dir, "nats"))
	require.Equal(t, exitOK, o.code, o.errors)
	require.Equal(t, 2*copies*53, strings.Count(o.out, "\n"))
	require.Equal(t, 2*copies*53, strings.Count(o.out, "\"httpStatus\":200"), "each with its answer")

	fresh := newEL(t, 9, eltest.Config{})
	o = call(t, "", nil, "replay", "engine", "--file="+file, "--mode=verbatim", "--to="+fresh.URL(), "--jwt-secret="+fresh.file, "--json")
	require.Contains(t, o.out, "\"recorded\": "+strconv.Itoa(copies*sentOf(t)), o.errors)
}

// sentOf is how many payloads and forkchoices the capture has.
func sentOf(t *testing.T) (n int) {
	t.Helper()
	r, err := openCapture(captureFile, func(calls.Lost) {})
	require.NoError(t, err)
	for _, e := range r.entries {
		if q := e.Request; q != nil && (q.Class == engineapi.ClassReplay || q.Class == engineapi.ClassForkchoice) {
			n++
		}
	}
	return n
}

func TestAnImportThatLosesARecordFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "large.jsonl")
	noise := make([]byte, 1<<20)
	_, err := rand.Read(noise)
	require.NoError(t, err)
	line, err := calls.Pair{Seq: 1, Method: "eth_call", HTTPStatus: 200, Request: []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_call","params":["` + hex.EncodeToString(noise) + `"]}`)}.AppendTo(nil)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, line, 0o600))
	o := call(t, "", nil, "engine", "import", "--nats.store_dir="+filepath.Join(dir, "nats"), "--engine.spool_dir="+filepath.Join(dir, "engine"), "--engine.spool_max=1MiB", file)
	require.Equal(t, exitFailure, o.code, o.out)
	require.Contains(t, o.errors, "not stored whole")
}
