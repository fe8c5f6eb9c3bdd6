//go:build e2e && linux

package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// trouble is what happens to a node, and how it ends.
type trouble struct {
	name  string
	begin func(*testing.T, *fakeNode)
	end   func(*testing.T, *fakeNode)
}

func troubles() []trouble {
	broken := func(name string, f fault) trouble {
		return trouble{
			name:  name,
			begin: func(_ *testing.T, n *fakeNode) { n.set(func(n *fakeNode) { n.fault = f }) },
			end:   func(_ *testing.T, n *fakeNode) { n.set(func(n *fakeNode) { n.fault = faultNone }) },
		}
	}
	return []trouble{
		{"dead", func(_ *testing.T, n *fakeNode) { n.kill() }, func(t *testing.T, n *fakeNode) { t.Helper(); n.start(t) }},
		broken("hangs", faultHang), broken("fails", faultFail), broken("resets", faultReset),
		{
			"slow",
			func(_ *testing.T, n *fakeNode) { n.set(func(n *fakeNode) { n.service = 300 * time.Millisecond }) },
			func(_ *testing.T, n *fakeNode) { n.set(func(n *fakeNode) { n.service = 5 * time.Millisecond }) },
		},
	}
}

// Nodes die, hang, fail, cut connections and slow down, up to two of three at a time, and come back. As long as one
// is well, no read fails.
func TestGatewayReadsNeverFailWhileOneNodeIsWell(t *testing.T) {
	nodes := []*fakeNode{newFakeNode(t, "a"), newFakeNode(t, "b"), newFakeNode(t, "c")}
	var uris []string
	for _, n := range nodes {
		n.set(func(n *fakeNode) { n.service = 5 * time.Millisecond })
		uris = append(uris, n.url()+"?_workers=16")
	}
	g := startGateway(t, uris, "--gateway.node_timeout=700ms", "--gateway.cache.max_bytes=0")
	until := time.Now().Add(short(15*time.Second, 5*time.Minute))
	done := make(chan struct{})
	made, failed, retried := 0, 0, 0
	go func() {
		defer close(done)
		crowd(t, 12, func(int) bool { return time.Now().Before(until) }, func(i int) said {
			nap(t, 5*time.Millisecond)
			body := method(i, "eth_getBalance", fmt.Sprintf(`"0x%040x","latest"`, i))
			return ask(t.Context(), []string{g.prio, g.rpc}[i%2], body)
		}, func(i int, s said) {
			made++
			if s.err != nil || s.status != http.StatusOK || !strings.Contains(s.body, `"result":"`+fmt.Sprintf("0x%040x", i)) {
				failed++
				t.Errorf("%s call %d: %s", time.Now().UTC().Format("15:04:05.000"), i, s)
			}
			if s.header.Get("X-LB-Tries") > "1" {
				retried++
			}
		})
	}()
	happened := chaos(t, nodes, until)
	<-done
	report(t, "%d reads under %v: %d failed, %d were tried again", made, happened, failed, retried)
	require.Zero(t, failed)
	require.NotZero(t, retried)
}

// chaos breaks and mends nodes; one that was well in the round before always stays so.
func chaos(t *testing.T, nodes []*fakeNode, until time.Time) map[string]int {
	t.Helper()
	type state struct {
		bad  trouble
		well bool
	}
	now := []state{{well: true}, {well: true}, {well: true}}
	happened := map[string]int{}
	for time.Now().Before(until) {
		var spared []int
		for i, s := range now {
			if s.well {
				spared = append(spared, i)
			}
		}
		keep := spared[rand.IntN(len(spared))]
		for i, n := range nodes {
			switch {
			case !now[i].well && rand.IntN(2) == 0:
				now[i].bad.end(t, n)
				now[i].well = true
			case now[i].well && i != keep && rand.IntN(2) == 0:
				all := troubles()
				now[i] = state{bad: all[rand.IntN(len(all))]}
				now[i].bad.begin(t, n)
				happened[now[i].bad.name]++
				t.Logf("%s %s: %s", time.Now().UTC().Format("15:04:05.000"), n.addr, now[i].bad.name)
			}
		}
		nap(t, 1200*time.Millisecond)
	}
	for i, n := range nodes {
		if !now[i].well {
			now[i].bad.end(t, n)
		}
	}
	return happened
}
