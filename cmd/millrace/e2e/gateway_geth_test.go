//go:build e2e && linux

package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/eltest"
	"millrace/internal/eltest/drive"
)

// clientReport is what run.mjs prints about one client.
type clientReport struct {
	Reads   int
	Filters int
	Errors  []string
	Heads   []uint64
}

// steps makes so many blocks, one in four as a reorganisation.
func steps(t *testing.T, d *drive.Driver, n int) {
	t.Helper()
	for i := range n {
		if i%4 == 3 {
			require.NoError(t, d.Reorg(t.Context(), 2))
		} else {
			require.NoError(t, d.Step(t.Context()))
		}
		nap(t, 50*time.Millisecond)
	}
}

// clients runs the three JavaScript clients until finish is called.
type clients struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   bytes.Buffer
}

// startClients installs the clients, once, from the lock file; without npm the test fails: .ci/run installs it.
func startClients(t *testing.T, addr string) *clients {
	t.Helper()
	dir, err := filepath.Abs("clients")
	require.NoError(t, err)
	if _, err := os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json")); err != nil {
		install := exec.CommandContext(t.Context(), "npm", "ci", "--loglevel=error")
		install.Dir = dir
		out, err := install.CombinedOutput()
		require.NoError(t, err, "npm ci: %s", out)
	}
	c := &clients{cmd: exec.CommandContext(t.Context(), "node", "run.mjs", "http://"+addr, "ws://"+addr)}
	c.cmd.Dir, c.cmd.Stdout, c.cmd.Stderr = dir, &c.out, os.Stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.stdin, err = c.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	return c
}

// finish ends the clients and reads their reports.
func (c *clients) finish(t *testing.T) map[string]clientReport {
	t.Helper()
	require.NoError(t, c.stdin.Close())
	require.NoError(t, c.cmd.Wait())
	var all map[string]clientReport
	require.NoError(t, json.Unmarshal(c.out.Bytes(), &all), "%s", c.out.Bytes())
	require.Len(t, all, 3)
	return all
}

// TestRealClientsNoticeNothingOfANodesDeath has ethers, viem and web3.js read, in batches too, poll filters and follow
// heads through a gateway over two geths, which an engine process keeps at one head. Each geth in its turn is killed, and
// comes back: no read fails, and every canonical head is told once, in order.
func TestRealClientsNoticeNothingOfANodesDeath(t *testing.T) {
	beside(t)
	g := newGeths(t, eltest.SchemeHash, eltest.SchemeHash)
	d := g.driver(t, nil, testSecret(t, 1))
	steps(t, d, 3)
	g.together(t, d, 1)
	addr := freeAddr(t)
	var list []map[string]string
	for _, n := range g.nodes {
		list = append(list, map[string]string{"url": n.RPCURL(), "ws_url": n.WSURL()})
	}
	js, err := json.Marshal(list)
	require.NoError(t, err)
	gw := newProcess(t, "gateway", "gateway", "--log.format=json", "--log.level=debug", "--gateway.nodes="+string(js),
		`--gateway.listeners=[{"addr":"`+addr+`","dialect":"jsonrpc"}]`, "--gateway.health_check.interval=500ms")
	gw.up(t)
	c := startClients(t, addr)
	nap(t, 4*time.Second) // they load for about two
	steps(t, d, 8)
	g.nodes[1].Kill()
	steps(t, d, 12)
	require.NoError(t, g.nodes[1].Start(t.Context()))
	g.together(t, d, 1)
	steps(t, d, 4)
	g.together(t, d, 1)
	d = g.driver(t, g.nodes[1], testSecret(t, 2))
	g.nodes[0].Kill()
	steps(t, d, 12)
	require.NoError(t, g.nodes[0].Start(t.Context()))
	steps(t, d, 4)
	g.together(t, d, 0, 1)
	nap(t, 2*time.Second)
	last := d.Head()
	for name, r := range c.finish(t) {
		t.Logf("%s: %d reads, %d filters, %d heads", name, r.Reads, r.Filters, len(r.Heads))
		require.Empty(t, r.Errors, name)
		require.Greater(t, r.Reads, 100, name)
		complete(t, name, r.Heads, last.Number)
	}
}

// complete checks that heads go up by one, or back to a branch, and end at last.
func complete(t *testing.T, name string, heads []uint64, last uint64) {
	t.Helper()
	require.NotEmpty(t, heads, name)
	for i := 1; i < len(heads); i++ {
		require.LessOrEqual(t, heads[i], heads[i-1]+1, "%s: a gap in %v", name, heads)
		require.Greater(t, heads[i]+8, heads[i-1], "%s: far back in %v", name, heads)
	}
	require.Equal(t, last, heads[len(heads)-1], "%s: %v", name, heads)
}
