package workers

import (
	"context"
	"log/slog"
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
	Source: (*bus.Bus)(nil), Publisher: (*bus.Bus)(nil), Recorder: (*bus.Bus)(nil), Refusals: (*bus.Bus)(nil),
	Verdicts: (*bus.Bus)(nil), Suspects: (*bus.Bus)(nil), Clock: (*bus.Bus)(nil),
}

const soon = 20 * time.Second // bound of what takes milliseconds, on a busy machine

func dial(t *testing.T) *bus.Bus {
	t.Helper()
	b, err := bus.Dial(t.Context(), bus.Config{StoreDir: t.TempDir(), Sync: bus.SyncInterval, Replicas: 1}, subjects.Options{
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
	expired := live(t, b, acceptedBundle(t, sign(t, "b", legacyTx())), order.PriorityLow, -time.Second)

	feed := b.Feed("builder", "test")
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
	ports := Ports{Source: b, Publisher: b, Recorder: b, Refusals: b, Verdicts: b, Suspects: b, Clock: b}
	w, err := New(Config{SignerCache: cacheConfig()}, ports, cache, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	during(t, w.Run)

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
