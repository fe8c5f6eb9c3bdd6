package discovery

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/certificate/selfsigned"
	"millrace/internal/discovery/hubtest"
)

// patience is how long a test waits for what has to come.
const patience = 10 * time.Second

// rig is a running watcher and what it told.
type rig struct {
	*Watcher
	t    *testing.T
	sets chan []Peer
	logs *logs
	stop func()
}

// logs is a handler's output that may be read while it is written.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newWatcher(t *testing.T, cfg Config, self Self, r Resolver) *rig {
	t.Helper()
	g := &rig{t: t, sets: make(chan []Peer, 64), logs: &logs{}}
	log := slog.New(slog.NewTextHandler(g.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w, err := New(cfg, self, r, func(ps []Peer) { g.sets <- ps }, log, prometheus.NewPedanticRegistry())
	require.NoError(t, err)
	g.Watcher = w
	return g
}

// start runs it until the test ends or stop is called.
func (g *rig) start() *rig {
	g.t.Helper()
	ctx, cancel := context.WithCancel(g.t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	g.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			require.NoError(g.t, err)
		case <-time.After(patience):
			g.t.Fatal("Run does not end")
		}
	})
	g.t.Cleanup(g.stop)
	return g
}

// next is the set that is told next, by names.
func (g *rig) next() []Peer {
	g.t.Helper()
	select {
	case ps := <-g.sets:
		return ps
	case <-time.After(patience):
		g.t.Fatalf("no set is told\n%s", g.logs)
		return nil
	}
}

// awaitSet takes sets until one has these peers.
func (g *rig) awaitSet(want ...string) []Peer {
	g.t.Helper()
	for {
		ps := g.next()
		if fmt.Sprint(called(ps)) == fmt.Sprint(want) {
			return ps
		}
	}
}

// quiet says that no set was told.
func (g *rig) quiet() {
	g.t.Helper()
	select {
	case ps := <-g.sets:
		g.t.Fatalf("a set is told: %v", called(ps))
	default:
	}
}

func (g *rig) state(s Source) State {
	for _, st := range g.State() {
		if st.Source == s {
			return st
		}
	}
	return State{}
}

// awaitFault refreshes until the source has failed n more times.
func (g *rig) awaitFault(s Source, reason string) {
	g.t.Helper()
	before := g.faults(s, reason)
	g.Refresh()
	g.eventually(func() bool { return g.faults(s, reason) > before })
}

// awaitSuccess refreshes until the source has given a set since.
func (g *rig) awaitSuccess(s Source) {
	g.t.Helper()
	before := g.state(s).LastSuccess
	g.Refresh()
	g.eventually(func() bool { return g.state(s).LastSuccess.After(before) })
}

func (g *rig) faults(s Source, reason string) float64 {
	return testutil.ToFloat64(g.metrics.errors.WithLabelValues(s.String(), reason))
}

func (g *rig) skipped(s Source, reason string) float64 {
	return testutil.ToFloat64(g.metrics.skipped.WithLabelValues(s.String(), reason))
}

func (g *rig) eventually(f func() bool) {
	g.t.Helper()
	require.Eventually(g.t, f, patience, 2*time.Millisecond, "%s", g.logs)
}

func called(ps []Peer) []string {
	ns := []string{}
	for _, p := range ps {
		ns = append(ns, p.Name)
	}
	return ns
}

func addr(n byte) common.Address { return common.BytesToAddress([]byte{n}) }

func pin(n byte) string {
	sum := sha256.Sum256([]byte{n})
	return hex.EncodeToString(sum[:])
}

// certificatePEM is one that nobody else has.
func certificatePEM(tb testing.TB) string {
	tb.Helper()
	cert, _ := selfsigned.Write(tb, tb.TempDir(), 7)
	b, err := os.ReadFile(cert)
	require.NoError(tb, err)
	return string(b)
}

// listed is a builder of a hub's list.
func listed(name string, n byte) hubtest.Builder {
	return hubtest.Builder{Name: name, IP: fmt.Sprintf("10.0.0.%d", n), Proxy: &hubtest.Credentials{Signer: addr(n).Hex()}}
}

func hubConfig(url string) Config {
	c := DefaultConfig()
	c.Hub.URL, c.Hub.Every, c.Hub.Register = url, time.Hour, false
	return c
}

func write(t *testing.T, path, text string) {
	t.Helper()
	tmp := path + ".tmp"
	require.NoError(t, os.WriteFile(tmp, []byte(text), 0o600))
	require.NoError(t, os.Rename(tmp, path))
}

func peersFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "peers.yaml")
	write(t, path, text)
	return path
}
