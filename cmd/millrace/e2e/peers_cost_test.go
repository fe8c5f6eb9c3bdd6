//go:build e2e && linux

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/discovery/hubtest"
	"millrace/loadtest"
)

// costRate is in orders a second: every peer of ours is a node on this machine.
const costRate = 40

// What each further peer costs the operator whose orders go to it, in CPU of its process, beside the first proxy:
// with 1, 5 and 10 peers, against none. It is reported; at so low a rate most of ours is what a connection costs
// that carries nothing.
func TestPeersCostTheirOrigin(t *testing.T) {
	if !soak() {
		t.Skip("compares costs, which needs the machine: make soak")
	}
	if os.Getenv("MILLRACE_V1B_BIN") == "" {
		t.Skip("MILLRACE_V1B_BIN names no binary of the first proxy: it is no dependency of ours, see docs/performance.md")
	}
	counts := []int{0, 1, 5, 10}
	ours, theirs := map[int]time.Duration{}, map[int]time.Duration{}
	for _, n := range counts {
		t.Run(fmt.Sprintf("millrace with %d", n), func(t *testing.T) { ours[n] = costHere(t, n) })
		t.Run(fmt.Sprintf("first proxy with %d", n), func(t *testing.T) { theirs[n] = costThere(t, n) })
	}
	for _, n := range counts[1:] {
		a, b := (ours[n]-ours[0])/time.Duration(n), (theirs[n]-theirs[0])/time.Duration(n)
		report(t, "%d peers: an order costs %s of CPU here and %s there; a peer %s and %s, %.2fx", n, ours[n], theirs[n], a, b, float64(a)/float64(b))
	}
}

// costHere is the CPU of an order at a node with n peers, all nodes of their own.
func costHere(t *testing.T, n int) time.Duration {
	t.Helper()
	names := []string{"origin"}
	for i := range n {
		names = append(names, fmt.Sprintf("peer%d", i))
	}
	all := startOperators(t, names...)
	for _, o := range all {
		rested(t, o.bus.pid())
	}
	cost, l := costOf(t, all[0].pipeline, all[0].bus.pid())
	for _, o := range all[1:] {
		o.arrived(t, l, all[0], 0)
	}
	return cost
}

// costThere is the same at the first proxy, whose peers are listeners that take everything.
func costThere(t *testing.T, n int) time.Duration {
	t.Helper()
	pem, _, _, shown := hubIdentity(t)
	hub := hubtest.Start(t)
	var taken atomic.Int64
	for i := range n {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			taken.Add(1)
			_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":1,"result":null}`))
		}))
		s.TLS = shown.Clone()
		s.StartTLS()
		t.Cleanup(s.Close)
		hub.Set(hubtest.Builder{
			Name: fmt.Sprintf("peer%d", i), IP: strings.TrimPrefix(s.URL, "https://"), Instance: &hubtest.Credentials{Certificate: pem},
		})
	}
	p := &pipeline{}
	p.sink, p.builder = startSink(t)
	old := startOldProxy(t, p.builder, hub.URL("old"), shown)
	p.doors = []string{old.user}
	nap(t, 3*time.Second)
	cost, l := costOf(t, p, old.pid)
	require.GreaterOrEqual(t, taken.Load(), int64(n*l.journal.Count(loadtest.AnswerAccepted)), "every peer gets every order")
	return cost
}

// rested waits until a process has done what it does after a start: workers compute tables for blobs for a while.
func rested(t *testing.T, pid int) {
	t.Helper()
	eventually(t, 2*time.Minute, func() bool {
		before := cpuTicks(t, pid)
		nap(t, 2*time.Second)
		return cpuTicks(t, pid)-before < 20 // a tenth of a CPU
	}, "the process rests")
}

// costOf sends a load and is what the process used for each order.
func costOf(t *testing.T, p *pipeline, pid int) (time.Duration, *load) {
	t.Helper()
	warm := p.startLoad(t, exchanged(costRate, 3*time.Second))
	warm.wait(t)
	f := exchanged(costRate, 20*time.Second)
	f.Corpus.Mix = loadtest.Mix{{Shape: loadtest.ShapeBundle, Weight: 1}}
	before := cpuTicks(t, pid)
	l := p.startLoad(t, f)
	l.wait(t)
	nap(t, time.Second)
	used := time.Duration(cpuTicks(t, pid)-before) * 10 * time.Millisecond
	return (used / time.Duration(costRate*20)).Round(time.Microsecond), l
}
