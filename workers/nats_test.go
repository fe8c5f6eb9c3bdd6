package workers

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus"
	"millrace/internal/ledger"
	"millrace/internal/order"
	"millrace/internal/signers"
	"millrace/subjects"
)

var _ = Ports{
	Source: (*bus.Bus)(nil), Publisher: (*bus.Bus)(nil), Recorder: (*bus.Bus)(nil), Ends: (*bus.Ends)(nil), Refusals: (*bus.Bus)(nil),
	Verdicts: (*bus.Bus)(nil), Suspects: (*bus.Bus)(nil), Clock: (*bus.Bus)(nil),
}

const soon = 20 * time.Second // bound of what takes milliseconds, on a busy machine

func dial(t *testing.T) *bus.Bus {
	t.Helper()
	return dialAt(t, t.TempDir())
}

func dialAt(t *testing.T, store string) *bus.Bus {
	t.Helper()
	b, err := bus.Dial(t.Context(), bus.Config{StoreDir: store, Sync: bus.SyncInterval, Replicas: 1}, subjects.Options{
		MaxAge: testMaxAge, MaxBody: 1 << 20, InMaxBytes: 32 << 20, OKMaxBytes: 32 << 20,
		LedgerMaxBytes: 16 << 20, LedgerMaxAge: 24 * time.Hour, Replicas: 1, Partitions: 2,
	}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return b
}

// during runs f until the test ends.
func during(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("ended: %v", err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

// live makes o an order of now and stores it.
func live(t *testing.T, b *bus.Bus, o *order.Order, p order.Priority, left time.Duration) *order.Order {
	t.Helper()
	now := b.Now().Truncate(time.Microsecond)
	o.ReceivedAt, o.Accept, o.Deadline, o.Priority = now, order.NewAcceptID(now), now.Add(left), p
	_, err := b.Publish(t.Context(), o)
	require.NoError(t, err)
	return o
}

func TestOrdersOfEveryTypeThroughNATS(t *testing.T) {
	t.Parallel()
	b := dial(t)
	var mu sync.Mutex
	verdicts := make(map[order.AcceptID]order.Verdict)
	during(t, func(ctx context.Context) error {
		return b.Verdicts(ctx, "door-1", func(v order.Verdict) {
			mu.Lock()
			defer mu.Unlock()
			verdicts[v.Accept] = v
		})
	})
	var valid, invalid []*order.Order
	for i, raw := range [][]byte{
		sign(t, "a", legacyTx()), sign(t, "a", accessListTx()), sign(t, "a", dynamicTx(3)), sign(t, "a", blobTx()), sign(t, "a", setCodeTx()),
	} {
		valid = append(valid, live(t, b, acceptedBundle(t, raw), order.Priorities[i%3], testMaxAge))
	}
	for i, v := range transactionViolations(t) {
		invalid = append(invalid, live(t, b, v.order, order.Priorities[i%3], testMaxAge))
	}
	feed := b.Feed("builder", "test", order.ScopeAll)
	require.NoError(t, feed.Open(t.Context()))
	delivered := make(map[order.AcceptID]order.Delivery)
	for _, p := range order.Priorities {
		during(t, func(ctx context.Context) error {
			return feed.Receive(ctx, p, func(d order.Delivery) {
				mu.Lock()
				defer mu.Unlock()
				delivered[d.Order.Accept] = d
			})
		})
	}
	cache, err := signers.New(cacheConfig(), testChain, realRules(t), nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	ports := Ports{Source: b, Publisher: b, Recorder: b, Ends: b.Ends(ledger.Accepts), Refusals: b, Verdicts: b, Suspects: b, Clock: b}
	w, err := New(Config{SignerCache: cacheConfig()}, ports, cache, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	started := b.Now()
	during(t, w.Run)
	// What is stored well after the start can't have been handed out before.
	require.Eventually(t, func() bool { return b.Now().Sub(started) > 2*time.Second }, soon, 10*time.Millisecond)
	expired := live(t, b, acceptedBundle(t, sign(t, "b", legacyTx())), order.PriorityLow, -time.Second)

	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(delivered) >= len(valid) && len(verdicts) >= len(valid)+len(invalid)+1
	}, soon, 10*time.Millisecond)
	records := make(map[order.AcceptID][]ledger.Entry)
	require.NoError(t, b.Ledger(t.Context(), b.Now().Add(-time.Hour), func(_ string, batch []byte, _ time.Time) error {
		es, err := ledger.Decode(batch)
		for _, e := range es {
			records[e.Accept] = append(records[e.Accept], e)
		}
		return err
	}))
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, delivered, len(valid))
	require.Len(t, records, len(invalid)+1)
	for _, o := range valid {
		require.Contains(t, delivered, o.Accept)
		require.Nil(t, verdicts[o.Accept].Reason)
	}
	for _, o := range invalid {
		require.Len(t, records[o.Accept], 1)
		require.Equal(t, ledger.Invalid, records[o.Accept][0].Outcome)
		require.NotNil(t, verdicts[o.Accept].Reason)
		reason, err := b.Refusal(t.Context(), o.ID)
		require.NoError(t, err)
		require.Equal(t, verdicts[o.Accept].Reason.Code, reason.Code)
	}
	require.Equal(t, ledger.Expired, records[expired.Accept][0].Outcome)
}

// receipts is the store of validated orders; it tells what became of each publish.
type receipts struct {
	*bus.Bus
	got chan order.Receipt
}

func (r *receipts) PublishOK(ctx context.Context, o *order.Order) (order.Receipt, error) {
	receipt, err := r.Bus.PublishOK(ctx, o)
	if err == nil {
		r.got <- receipt
	}
	return receipt, err
}

// workOn runs a pool on b until stop is called.
func workOn(t *testing.T, b *bus.Bus) (got <-chan order.Receipt, stop func()) {
	t.Helper()
	r := &receipts{Bus: b, got: make(chan order.Receipt, 8)}
	ports := Ports{Source: b, Publisher: r, Recorder: b, Ends: b.Ends(ledger.Accepts), Refusals: b, Verdicts: b, Suspects: b, Clock: b}
	w, err := New(Config{SignerCache: cacheConfig()}, ports, anything, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	return r.got, func() {
		cancel()
		require.NoError(t, <-ended)
	}
}

// forget puts a stream's files back to what they were in early.
func forget(t *testing.T, store, early, stream string) {
	t.Helper()
	var dir string
	require.NoError(t, filepath.WalkDir(early, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == stream && filepath.Base(filepath.Dir(path)) == "streams" {
			dir = path
		}
		return err
	}))
	require.NotEmpty(t, dir)
	rel, err := filepath.Rel(early, dir)
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(filepath.Join(store, rel)))
	require.NoError(t, os.CopyFS(filepath.Join(store, rel), os.DirFS(dir)))
}

func awaitReceipt(t *testing.T, got <-chan order.Receipt) order.Receipt {
	t.Helper()
	select {
	case r := <-got:
		return r
	case <-time.After(soon):
		require.Fail(t, "nothing was stored in OK")
		return order.Receipt{}
	}
}

// The server dies, forgets the worker's acknowledgement, and comes back after the order's deadline:
// the order is delivered by then, and must not be recorded as expired besides.
func TestRule12WhatADeadServerForgotHasOneRecord(t *testing.T) {
	t.Parallel()
	store, early := t.TempDir(), filepath.Join(t.TempDir(), "early")
	b := dialAt(t, store)
	o := live(t, b, acceptedBundle(t, sign(t, "a", dynamicTx(1))), order.PriorityMedium, 3*time.Second)
	require.NoError(t, os.CopyFS(early, os.DirFS(store)))
	got, stop := workOn(t, b)
	require.False(t, awaitReceipt(t, got).Duplicate)
	stop()
	done := b.Done("builder")
	require.NoError(t, done.Tail(t.Context(), b.Now().Add(-time.Minute), func([]byte) error { return nil }))
	e := ledger.Of(o)
	e.Outcome, e.DoneAt = ledger.Delivered, b.Now()
	require.NoError(t, done.Append(t.Context(), e.AppendTo(nil)))
	b.Close()

	forget(t, store, early, subjects.StreamIn(order.PriorityMedium))
	require.Eventually(t, func() bool { return time.Now().After(o.Deadline) }, soon, 10*time.Millisecond)
	b = dialAt(t, store)
	settled, stop := workFrom(t, &handedOut{Bus: b, change: func(*order.Delivery) {}})
	<-settled
	stop()
	var records []ledger.Outcome
	require.NoError(t, b.Ledger(t.Context(), b.Now().Add(-time.Hour), func(_ string, batch []byte, _ time.Time) error {
		es, err := ledger.Decode(batch)
		for _, e := range es {
			require.Equal(t, o.Accept, e.Accept)
			records = append(records, e.Outcome)
		}
		return err
	}))
	require.Equal(t, []ledger.Outcome{ledger.Delivered}, records)
}
