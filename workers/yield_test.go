package workers

import (
	"context"
	"encoding/hex"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/order"
)

// priorityQueue is a source with one slot: what waits in high runs whenever the one in the slot
// yields.
type priorityQueue struct {
	high, low []order.Delivery
	handle    handler
	t         *testing.T
}

func (q *priorityQueue) run(ctx context.Context, d order.Delivery) {
	finish, err := q.handle(ctx, d, func() { q.drain(ctx) })
	require.NoError(q.t, err)
	require.NoError(q.t, finish(ctx))
}

func (q *priorityQueue) drain(ctx context.Context) {
	for len(q.high) > 0 {
		d := q.high[0]
		q.high = q.high[1:]
		q.run(ctx, d)
	}
}

// A high order that comes while a low one is in its slot waits for one recovery, not for all.
func TestAnUrgentOrderWaitsForOneRecoveryOnly(t *testing.T) {
	s := newStore()
	names := make(map[string]string)
	tx := func(name string, nonce uint64) []byte {
		raw := sign(t, name, dynamicTx(nonce))
		names[hex.EncodeToString(raw)] = name
		return raw
	}
	low := acceptedBundle(t, tx("low 1", 1), tx("low 2", 2), tx("low 3", 3))
	low.Priority = order.PriorityLow
	high := acceptedBundle(t, tx("high 1", 4), tx("high 2", 5))
	high.Priority = order.PriorityHigh

	q := &priorityQueue{low: []order.Delivery{delivery(low, 1)}, t: t}
	var checked []string
	p := start(t, s, 1, rulesFunc(func(raw []byte, _ order.Kind, _ time.Time) (order.TxInfo, error) {
		name := names[hex.EncodeToString(raw)]
		if name == "low 1" {
			q.high = append(q.high, delivery(high, 1)) // comes now
		}
		checked = append(checked, name)
		return order.TxInfo{}, nil
	}))
	p.bus.consume = func(ctx context.Context, _ int, h handler) error {
		q.handle = h
		for _, d := range q.low {
			q.run(ctx, d)
		}
		return nil
	}
	require.NoError(t, p.Run(t.Context()))
	require.Equal(t, []string{"low 1", "high 1", "high 2", "low 2", "low 3"}, checked)
	require.Equal(t, []order.AcceptID{high.Accept, low.Accept}, []order.AcceptID{s.verdicts[0].Accept, s.verdicts[1].Accept})
	require.Zero(t, testutil.ToFloat64(p.metrics.inSlot))
}

func TestAnOrderYieldsBetweenItsTransactionsAndOnlyThere(t *testing.T) {
	for txs, want := range map[int]int{1: 0, 2: 1, 7: 6} {
		var raws [][]byte
		for i := range txs {
			raws = append(raws, sign(t, "a", dynamicTx(uint64(i))))
		}
		yields := 0
		p := start(t, newStore(), 1, anything)
		_, err := p.handle(t.Context(), delivery(acceptedBundle(t, raws...), 1), func() { yields++ })
		require.NoError(t, err)
		require.Equal(t, want, yields)
	}
}

func TestAPanicOfWhatItGaveWayToDoesNotReachTheOrder(t *testing.T) {
	o := acceptedBundle(t, sign(t, "a", dynamicTx(1)), sign(t, "a", dynamicTx(2)))
	s := newStore()
	p := start(t, s, 1, anything)
	_, err := p.handle(t.Context(), delivery(o, 1), func() { panic("source") })
	require.ErrorIs(t, err, ErrPanic)
	require.True(t, p.alone.TryLock(), "the lock is free again")
	p.alone.Unlock()
}

func TestTimeGivenAwayIsNotTheOrdersOwn(t *testing.T) {
	w := stopwatch{started: time.Now().Add(-time.Hour)}
	w.pause(func() {})
	w.paused += 59 * time.Minute
	require.InDelta(t, time.Minute.Seconds(), w.elapsed().Seconds(), 1)
}
