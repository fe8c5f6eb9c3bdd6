package index

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

// generator makes orders as a busy node sees them: a tenth transactions, bundles of three
// transactions else, each delivered to one target.
type generator struct {
	n     uint64
	every time.Duration
	at    time.Time
	batch []byte
}

func (g *generator) next() (*order.Order, ledger.Entry) {
	g.n++
	g.at = g.at.Add(g.every)
	var a order.AcceptID
	binary.BigEndian.PutUint64(a[:], uint64(g.at.UnixMicro()))
	binary.BigEndian.PutUint64(a[8:], g.n*0xff51afd7ed558ccd)
	o := &order.Order{
		Accept: a, ID: order.ID(hashOf(5 * g.n)), Hash: hashOf(5*g.n + 1), Signer: common.Address{byte(g.n)},
		Method: order.MethodSendBundle, Kind: order.KindBundle, Priority: order.PriorityHigh, Deadline: g.at.Add(36 * time.Second),
		ReceivedAt: a.Received(),
		Trail: &order.Trail{
			InSequence: g.n, InStoredAt: a.Received().Add(180 * time.Microsecond), DecidedAt: a.Received().Add(600 * time.Microsecond), Attempts: 1,
		},
	}
	if g.n%10 == 0 {
		o.ID, o.Kind, o.Method = order.ID(o.Hash), order.KindTransaction, order.MethodSendRawTransaction
	} else {
		for i := range uint64(3) {
			o.Trail.Mark(hashOf(5*g.n + 2 + i))
		}
	}
	return o, delivered(o, g.n)
}

// feed reads n orders and their ends into x, as rounds of the given size do.
func (g *generator) feed(tb testing.TB, x *Index, n, round int) {
	tb.Helper()
	for n > 0 {
		b := x.db.NewBatch()
		g.batch = g.batch[:0]
		size := min(n, round)
		for range size {
			o, e := g.next()
			stored := o.ReceivedAt.Add(time.Millisecond)
			require.NoError(tb, x.take(b, order.LogHigh, order.Logged{Order: o, Sequence: g.n, StoredAt: stored}))
			x.done.at[order.LogHigh].Sequence = g.n
			g.batch = e.AppendTo(g.batch)
		}
		for batch := g.batch; len(batch) > 0; {
			part := batch[:min(len(batch), 64*ledger.EntrySize)]
			batch = batch[len(part):]
			require.NoError(tb, x.take(b, order.LogDone, order.Logged{Target: "builder", Batch: part, Sequence: 1, StoredAt: g.at}))
		}
		require.NoError(tb, x.commit(b))
		require.NoError(tb, b.Close())
		n -= size
	}
}

// BenchmarkIndexing is what an order and its end cost from the moment they are decoded, with writing
// and merging files.
func BenchmarkIndexing(b *testing.B) {
	p := newPipeline()
	x := newIndex(b, p, testConfig(b.TempDir()))
	require.NoError(b, x.openStore(b.Context()))
	g := generator{every: 333 * time.Microsecond, at: testNow}
	b.ReportAllocs()
	const round = 750
	n := 0
	for b.Loop() {
		if n++; n%round == 0 {
			g.feed(b, x, round, round)
		}
	}
	require.NoError(b, x.db.Flush())
	b.ReportMetric(float64(x.db.bytes())/float64(max(g.n, 1)), "disk-B/order")
	require.NoError(b, x.closeStore())
}

// BenchmarkGenerating is what of BenchmarkIndexing is the generator's.
func BenchmarkGenerating(b *testing.B) {
	g := generator{every: 333 * time.Microsecond, at: testNow}
	b.ReportAllocs()
	for b.Loop() {
		_, e := g.next()
		g.batch = e.AppendTo(g.batch[:0])
	}
}

func BenchmarkLookup(b *testing.B) {
	p := newPipeline()
	x := newIndex(b, p, testConfig(b.TempDir()))
	require.NoError(b, x.openStore(b.Context()))
	g := generator{every: 86 * time.Millisecond, at: testNow.Add(-24 * time.Hour)} // a day of a million
	g.feed(b, x, 1_000_000, 5000)
	require.NoError(b, x.db.Flush())
	for _, c := range []struct {
		name string
		n    uint64
	}{{"known", 5*500_000 + 1 + 2}, {"unknown", 4}} {
		b.Run(c.name, func(b *testing.B) {
			q := HashQuery(hashOf(c.n))
			for b.Loop() {
				s := search{ctx: b.Context(), q: q, limit: 10, oldest: minuteOf(testNow.Add(-24 * time.Hour))}
				require.NoError(b, s.run(x.db))
			}
		})
	}
	require.NoError(b, x.closeStore())
}
