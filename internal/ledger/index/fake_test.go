package index

import (
	"context"
	"encoding/binary"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

var testNow = time.UnixMicro(1_790_000_000_123_456)

// pipeline is the logs in memory, and a clock.
type pipeline struct {
	mu   sync.Mutex
	now  time.Time
	logs [len(order.Logs) + 1]struct {
		epoch  int64
		first  uint64 // what is before was purged
		stored []order.Logged
	}
	fail error
	full bool
}

func newPipeline() *pipeline {
	p := &pipeline{now: testNow}
	for _, l := range order.Logs {
		p.logs[l].epoch, p.logs[l].first = 1, 1
	}
	return p
}

// at is one log of a pipeline.
type at struct {
	*pipeline
	log order.Log
}

func (a at) Read(ctx context.Context, after order.Place, each func(order.Logged) error) (order.Place, error) {
	a.mu.Lock()
	l := a.logs[a.log]
	err := a.fail
	a.mu.Unlock()
	if err != nil {
		return after, err
	}
	if after.Epoch != l.epoch {
		after = order.Place{Epoch: l.epoch}
	}
	for _, e := range l.stored {
		if e.Sequence <= after.Sequence || e.Sequence < l.first {
			continue
		}
		if err := each(e); err != nil {
			return after, err
		}
		after.Sequence = e.Sequence
	}
	return after, ctx.Err()
}

func (p *pipeline) store(l order.Log, e order.Logged) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.Sequence = uint64(len(p.logs[l].stored)) + 1
	e.StoredAt = p.now
	p.logs[l].stored = append(p.logs[l].stored, e)
	return e.Sequence
}

func (p *pipeline) clock() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func (p *pipeline) advance(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.now.Add(d)
}

// accept makes the n-th order, received now, with its transactions.
func (p *pipeline) accept(n byte, txs ...common.Hash) *order.Order {
	now := p.clock()
	o := &order.Order{
		Accept: order.NewAcceptID(now), ID: order.ID{n, 1}, Key: order.ID{n, 2}, Hash: common.Hash{n, 3}, Signer: common.Address{n, 4},
		Method: order.MethodSendBundle, Kind: order.KindBundle, Priority: order.PriorityMedium,
		ReceivedAt: now, Deadline: now.Add(36 * time.Second),
		Trail: &order.Trail{
			InSequence: uint64(n) + 100, InStoredAt: now.Add(200 * time.Microsecond), DecidedAt: now.Add(900 * time.Microsecond), Attempts: 1,
		},
	}
	for _, h := range txs {
		o.Trail.Mark(h)
	}
	return o
}

// validate stores an order in OK.
func (p *pipeline) validate(o *order.Order) uint64 {
	return p.store(order.Log(o.Priority), order.Logged{Order: o})
}

// end stores a record of each outcome's order at a target.
func (p *pipeline) end(target string, es ...ledger.Entry) {
	var batch []byte
	for i := range es {
		batch = es[i].AppendTo(batch)
	}
	p.store(order.LogDone, order.Logged{Target: target, Batch: batch})
}

// reject stores the record of an order that ended before delivery.
func (p *pipeline) reject(o *order.Order, text string) {
	e := ledger.Of(o)
	e.Outcome, e.Code, e.Text, e.DoneAt = ledger.Invalid, order.CodeMalformed, text, p.clock()
	p.store(order.LogRejected, order.Logged{
		Target: ledger.AnyTarget, Batch: e.AppendTo(nil),
		Trail: func(a order.AcceptID) (order.Trail, bool) { return *o.Trail, a == o.Accept },
	})
}

func delivered(o *order.Order, sequence uint64) ledger.Entry {
	e := ledger.Of(o)
	e.Outcome, e.Sequence, e.Attempts, e.Status = ledger.Delivered, sequence, 1, 200
	e.StoredAt = o.ReceivedAt.Add(1100 * time.Microsecond)
	e.SentAt, e.DoneAt = o.ReceivedAt.Add(1300*time.Microsecond), o.ReceivedAt.Add(2*time.Millisecond)
	return e
}

func testConfig(dir string) Config {
	return Config{Enabled: true, Dir: dir, MaxAge: 24 * time.Hour, MaxBytes: 1 << 30}
}

func newIndex(tb testing.TB, p *pipeline, cfg Config) *Index {
	tb.Helper()
	x, err := New(cfg, Ports{
		Log: func(l order.Log) Log { return at{p, l} }, Now: p.clock,
		Full: func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.full
		},
	}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(tb, err)
	return x
}

// run runs an index until the returned function, or the test's end.
func run(tb testing.TB, p *pipeline, cfg Config) (x *Index, stop func()) {
	tb.Helper()
	x = newIndex(tb, p, cfg)
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	require.Eventually(tb, x.isOpen, 10*time.Second, time.Millisecond)
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(tb, <-done)
		}
	}
	tb.Cleanup(stop)
	return x, stop
}

func find(tb testing.TB, x *Index, name string) []Timeline {
	tb.Helper()
	q, err := ParseQuery(name)
	require.NoError(tb, err)
	a, err := x.Lookup(tb.Context(), q, 10, nil)
	require.NoError(tb, err)
	require.True(tb, a.Current)
	return a.Orders
}

func hashOf(n uint64) (h common.Hash) {
	binary.BigEndian.PutUint64(h[:], n*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(h[8:], n*0xc2b2ae3d27d4eb4f+1)
	return h
}
