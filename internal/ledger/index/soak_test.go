//go:build e2e

package index

import (
	"cmp"
	"flag"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/order"
)

var (
	soakOrders = flag.Int("trace.orders", 1_000_000, "orders of the trace soak, spread over a day")
	soakDir    = flag.String("trace.dir", "", "folder of the trace soak, which the next run goes on with; empty: a new one")
	soakFill   = flag.Duration("trace.fill", 10*time.Minute, "how long one run may fill the folder")
)

// slowest is the bound of a look-up, whatever the index holds.
const slowest = time.Second

// TestSoakLookUpsStayFast fills a day with orders and looks some of them, and some that are not there,
// up by each kind of name, the first time with nothing in memory:
//
//	go test -tags e2e -run Soak -v ./internal/ledger/index -trace.orders=10000000
//
// With -trace.dir and -trace.fill it can be filled in several runs.
func TestSoakLookUpsStayFast(t *testing.T) {
	p := newPipeline()
	cfg := testConfig(cmp.Or(*soakDir, t.TempDir()))
	cfg.MaxBytes = 1 << 40
	x := newIndex(t, p, cfg)
	require.NoError(t, x.openStore(t.Context()))
	start := time.Now()
	g := generator{every: 24 * time.Hour / time.Duration(*soakOrders), n: x.done.at[order.LogHigh].Sequence}
	g.at = testNow.Add(-24*time.Hour + time.Minute + time.Duration(g.n)*g.every)
	had := g.n
	for g.n < uint64(*soakOrders) && time.Since(start) < *soakFill {
		g.feed(t, x, min(7500, *soakOrders-int(g.n)), 750)
	}
	require.NoError(t, x.closeStore())
	t.Logf("%d orders, %d of them in %s", g.n, g.n-had, time.Since(start).Round(time.Second))
	if g.n < uint64(*soakOrders) {
		t.Skip("not full yet: run it again")
	}

	opened := time.Now()
	require.NoError(t, x.openStore(t.Context()))
	defer func() { require.NoError(t, x.closeStore()) }()
	t.Logf("opened in %s, %d MiB on disk", time.Since(opened), x.db.bytes()>>20)
	for _, n := range []uint64{1, uint64(*soakOrders) / 2, uint64(*soakOrders)} {
		for name, q := range map[string]Query{
			"id": HashQuery(hashOf(5 * n)), "bundle hash": HashQuery(hashOf(5*n + 1)), "transaction": HashQuery(hashOf(5*n + 3)),
			"accept id": acceptQuery(&generator{n: n - 1, every: g.every, at: testNow.Add(-24*time.Hour + time.Minute + time.Duration(n-1)*g.every)}),
		} {
			if n%10 == 0 && (name == "transaction" || name == "id") {
				continue // a lone transaction: its hash is its id
			}
			took, found := look(t, x, q)
			t.Logf("%-12s of order %9d: %s", name, n, took)
			require.Len(t, found, 1, name)
			require.Len(t, found[0].Ends, 1)
			require.Less(t, took, slowest)
		}
	}
	for n := range uint64(20) {
		took, found := look(t, x, HashQuery(hashOf(1<<60+n)))
		require.Empty(t, found)
		require.Less(t, took, slowest)
		if n%5 == 0 {
			t.Logf("unknown hash: %s", took)
		}
	}
}

func acceptQuery(g *generator) Query {
	o, _ := g.next()
	q, _ := ParseQuery(o.Accept.String())
	return q
}

func look(t *testing.T, x *Index, q Query) (time.Duration, []Timeline) {
	t.Helper()
	start := time.Now()
	s := search{ctx: t.Context(), q: q, limit: 10, oldest: minuteOf(x.ports.Now().Add(-x.cfg.MaxAge))}
	require.NoError(t, s.run(x.db))
	return time.Since(start), s.found
}
