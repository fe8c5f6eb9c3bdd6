//go:build e2e && linux

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// procedure is what a reader of the runbook does, command by command: the blocks of its name in the order of
// the text, in one shell. before and after are what the text takes for granted and what it promises.
type procedure struct{ name, before, after string }

// TestRunbookCommandsDoWhatItSays runs the runbook's commands as they are printed, on the ports that are
// printed: each procedure has a network and a process space of its own.
func TestRunbookCommandsDoWhatItSays(t *testing.T) {
	beside(t)
	ready := `ready() { until curl -sf "http://127.0.0.1:$1/readyz" >ready.txt; do sleep 0.2; done; }` + "\n"
	for _, p := range []procedure{
		// Start, rolling upgrade under load, key rotation, drain.
		{name: "roles", after: `
grep 'every promise kept' load.txt
if ls site/keys/*.previous.nk; then exit 1; fi
if grep -h -e '"level":"ERROR"' -e 'Violation' *.log; then exit 1; fi
`},
		{name: "record", before: ready + `
./bin/millrace node --builder.url http://127.0.0.1:8645 2>node.log & node=$!
ready 8090
./bin/millrace loadtest --sink --admin http://127.0.0.1:8090 --rate 50 --duration 4s >load.txt
`, after: `
./bin/millrace ledger dump --admin http://127.0.0.1:9090 --since 24h --json | grep '"outcome":"delivered"' >delivered.txt
`},
		{name: "disk", before: ready + `
mkdir data && mount -t tmpfs -o size=256m none data
BALLAST=240M
./bin/millrace node 2>node.log & node=$!
ready 8090
fallocate() { command fallocate "$@"; until grep -q 'door closed' node.log; do sleep 0.1; done; }
`, after: `
until grep 'door open again' node.log && grep 'recording again' node.log; do sleep 0.2; done
`},
	} {
		t.Run(p.name, func(t *testing.T) {
			beside(t)
			runProcedure(t, p)
		})
	}
}

func runProcedure(t *testing.T, p procedure) {
	t.Helper()
	text, err := os.ReadFile("../../../docs/runbook.md")
	require.NoError(t, err)
	script := "set -euo pipefail\n" + p.before
	blocks := regexp.MustCompile("(?s)<!-- e2e: "+p.name+" -->\n```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	require.NotEmpty(t, blocks, "the runbook has no block %s", p.name)
	for _, b := range blocks {
		script += b[1]
	}
	dir := scratch(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "run.sh"), []byte(script+p.after), 0o600))

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	args := []string{"--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "bash", "-c", "ip link set lo up && exec bash -x run.sh"}
	if os.Getuid() != 0 {
		args = append([]string{"--map-root-user"}, args...)
	}
	cmd := exec.CommandContext(ctx, "unshare", args...)
	cmd.Dir, cmd.Env = dir, append(environment(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	// A nats-server reserves the caps of its streams: the default ones need a volume with 44 GB free.
	cmd.Env = append(cmd.Env, "MILLRACE_STREAMS_IN_MAX_BYTES=256MiB", "MILLRACE_STREAMS_OK_MAX_BYTES=256MiB",
		"MILLRACE_RECORD_ORDERS_MAX_BYTES=1GiB", "MILLRACE_RECORD_LEDGER_MAX_BYTES=1GiB", "MILLRACE_RECORD_ENGINE_MAX_BYTES=1GiB")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out.String(), logsIn(dir))
	}
	t.Log(out.String())
}

// scratch is a checkout's directory as the runbook sees it: bin/millrace, and nats-server in reach.
func scratch(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	at, err := filepath.Abs(binary)
	require.NoError(t, err)
	require.NoError(t, os.Symlink(at, filepath.Join(dir, "bin", "millrace")))
	server, err := natsServer()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(server, filepath.Join(dir, "bin", "nats-server")))
	return dir
}

func logsIn(dir string) string {
	var all strings.Builder
	logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, l := range logs {
		b, _ := os.ReadFile(l)
		lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
		fmt.Fprintf(&all, "--- %s\n%s\n", filepath.Base(l), bytes.Join(lines[max(0, len(lines)-20):], []byte("\n")))
	}
	return all.String()
}
