package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// gatewayFrom starts a gateway that is configured by a file, and returns it with what writes the file.
func gatewayFrom(t *testing.T, first string) (*proc, func(text string)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "millrace.yaml")
	write := func(text string) {
		require.NoError(t, os.WriteFile(path+".tmp", []byte("gateway:\n"+text), 0o600))
		require.NoError(t, os.Rename(path+".tmp", path))
	}
	write(first)
	p := start(t, nil, "gateway", "--mock-node", "--gateway.listen=127.0.0.1:0", "--gateway.listen_jsonrpc=127.0.0.1:0",
		"--nats.store_dir="+filepath.Join(t.TempDir(), "nats"), "--config="+path)
	p.line("started", 1)
	return p, write
}

func TestAGatewaysReloadNamesWhatIsInForceAndWhatIsNot(t *testing.T) {
	p, write := gatewayFrom(t, "  node_workers: 4\n")
	write(`  node_workers: 2
  node_timeout: 9s
  max_tries: 2
  hedge_after: 1s
  queues: {low_max: 5, timeout: 7s, fast_per_high: 1, low_every: 4}
  health_check: {check: full, fall: 2}
  ws: {max_per_ip: 7}
  subscriptions: {linger: 1s}
  drain: 3s
  max_connections: 100
`)
	require.Equal(t, []any{
		"gateway.health_check.check", "gateway.health_check.fall", "gateway.hedge_after", "gateway.max_tries", "gateway.node_timeout",
		"gateway.node_workers", "gateway.queues.fast_per_high", "gateway.queues.low_every", "gateway.queues.low_max", "gateway.queues.timeout",
		"gateway.subscriptions.linger", "gateway.ws.max_per_ip",
	}, p.line("reloaded", 1)["keys"])
	require.Equal(t, []any{"gateway.drain", "gateway.max_connections"}, p.line("changed keys need a restart", 1)["keys"])
	write("  queues: {high_max: -1}\n")
	require.Contains(t, p.line("reload refused, the earlier configuration stays in force", 1)["error"], "high_max")
}

func TestQueuesOnTheBusKeepWhatTheirStreamsWereMadeWith(t *testing.T) {
	p, write := gatewayFrom(t, "  queue: shared\n")
	write("  queue: shared\n  max_answer: 1MiB\n  queues: {low_every: 4, timeout: 7s}\n")
	require.Equal(t, []any{"gateway.queues.low_every"}, p.line("reloaded", 1)["keys"])
	require.Equal(t, []any{"gateway.max_answer", "gateway.queues.timeout"}, p.line("changed keys need a restart", 1)["keys"])
}
