package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
	"millrace/internal/engineapi"
)

// I14: the capture, imported and replayed to a fresh client with another secret.
func TestInvariant14ACaptureIsImportedAndReplayedWithoutAMismatch(t *testing.T) {
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
	fresh := newEL(t, 9, eltest.Config{})
	o := call(t, "", nil, "engine", "drive", "--to="+fresh.URL(), "--jwt-secret="+fresh.file, "--genesis=../../internal/eltest/testdata/genesis-mini.json", "--slots=12", "--every=1ms", "--random")
	require.Equal(t, exitOK, o.code, o.errors)
	require.Equal(t, 12, strings.Count(o.out, "slot "))
	require.NotZero(t, fresh.Head().Number)
}
