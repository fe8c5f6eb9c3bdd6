package workers

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto/kzg4844"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/order"
)

func isBlob(raw []byte) bool { return raw[0] == types.BlobTxType }

// heavyBundle has a blob transaction between two others.
func heavyBundle(t *testing.T) *order.Order {
	t.Helper()
	o := acceptedBundle(t, sign(t, "a", dynamicTx(1)), sign(t, "a", blobTx()), sign(t, "a", dynamicTx(2)))
	o.Priority = order.PriorityLow
	return o
}

// The check of the proofs does not end before the urgent order has: a slot that were held by it
// would never end.
func TestAnUrgentOrderIsDoneWhileABlobTransactionIsChecked(t *testing.T) {
	s := newStore()
	low := heavyBundle(t)
	high := acceptedBundle(t, sign(t, "b", dynamicTx(1)))
	high.Priority = order.PriorityHigh
	urgent := make(chan struct{})
	checking := make(chan struct{})
	p := start(t, s, 1, rulesFunc(func(raw []byte, _ order.Kind, _ time.Time) (order.TxInfo, error) {
		if isBlob(raw) {
			close(checking)
			<-urgent
		}
		return order.TxInfo{}, nil
	}))
	p.bus.consume = func(ctx context.Context, _ int, h handler) error {
		came := checking // nil once the urgent order was taken
		finish, err := h(ctx, delivery(low, 1), func() {
			select {
			case <-came:
				came = nil
				finish, err := h(ctx, delivery(high, 1), func() {})
				require.NoError(t, err)
				require.NoError(t, finish(ctx))
				close(urgent)
			default:
			}
		})
		require.NoError(t, err)
		return finish(ctx)
	}
	require.NoError(t, p.Run(t.Context()))
	require.Equal(t, []order.AcceptID{high.Accept, low.Accept}, []order.AcceptID{s.verdicts[0].Accept, s.verdicts[1].Accept})
	require.InDelta(t, 1, testutil.ToFloat64(p.metrics.aside), 0)
}

func TestBlobTransactionsAreCheckedOneAtATimeBesideTheSlots(t *testing.T) {
	var running, most atomic.Int32
	p := start(t, newStore(), 1, rulesFunc(func(raw []byte, _ order.Kind, _ time.Time) (order.TxInfo, error) {
		if isBlob(raw) {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
		}
		return order.TxInfo{}, nil
	}))
	require.Equal(t, max(p.cfg.slots()/2, 1), cap(p.aside))
	p.aside = make(chan struct{}, 1)
	o := heavyBundle(t)
	var slots sync.WaitGroup
	for range 4 {
		slots.Go(func() {
			for range 5 {
				_, err := p.validateShared(t.Context(), o, func() {})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	slots.Wait()
	require.EqualValues(t, 1, most.Load())
}

// An order that runs alone waits for a check beside a slot, although that slot has given way to it.
func TestRule08NoBlobTransactionIsCheckedBesideASuspect(t *testing.T) {
	checking, goOn := make(chan struct{}), make(chan struct{})
	var pending atomic.Bool
	suspect := acceptedBundle(t, sign(t, "b", dynamicTx(7)))
	p := start(t, newStore(), 1, rulesFunc(func(raw []byte, _ order.Kind, _ time.Time) (order.TxInfo, error) {
		if isBlob(raw) {
			pending.Store(true)
			close(checking)
			<-goOn
			pending.Store(false)
			return order.TxInfo{}, nil
		}
		if pending.Load() {
			t.Error("something else was checked meanwhile")
		}
		return order.TxInfo{}, nil
	}))
	o := acceptedBundle(t, sign(t, "a", blobTx()))
	var both sync.WaitGroup
	both.Go(func() {
		yields := 0
		_, err := p.validateShared(t.Context(), o, func() {
			if yields++; yields == 3 { // the suspect has had its chances
				close(goOn)
			}
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-checking
	both.Go(func() {
		if err := p.deliver(delivery(suspect, suspectAfter)); err != nil {
			t.Error(err)
		}
	})
	both.Wait()
}

func TestAPanicBesideTheSlotBringsTheOrderBack(t *testing.T) {
	p := start(t, newStore(), 1, rulesFunc(func(raw []byte, _ order.Kind, _ time.Time) (order.TxInfo, error) {
		if isBlob(raw) {
			panic("proof")
		}
		return order.TxInfo{}, nil
	}))
	_, err := p.handle(t.Context(), delivery(heavyBundle(t), 1), func() {})
	require.ErrorIs(t, err, ErrPanic)
	require.InDelta(t, 1, testutil.ToFloat64(p.metrics.panics), 0)
	require.Eventually(t, func() bool { return len(p.aside) == 0 }, 10*time.Second, time.Millisecond, "given back after the answer")
	require.True(t, p.alone.TryLock(), "the lock is free again")
	p.alone.Unlock()
}

func TestARefusalBesideTheSlotNamesItsTransaction(t *testing.T) {
	p := start(t, newStore(), 1, rulesFunc(func(raw []byte, _ order.Kind, _ time.Time) (order.TxInfo, error) {
		if isBlob(raw) {
			return order.TxInfo{}, order.Refuse(order.CodeBlobSidecar, "bad proof")
		}
		return order.TxInfo{}, nil
	}))
	_, err := p.validateShared(t.Context(), heavyBundle(t), func() {})
	require.EqualError(t, err, "tx 1: bad proof")
	require.Equal(t, order.CodeBlobSidecar, order.AsReason(err).Code)
}

func TestOnlyWhatCarriesABlobIsHeavy(t *testing.T) {
	full := sign(t, "a", blobTx())
	bare := blobTx()
	bare.Sidecar = nil
	large := dynamicTx(1)
	large.Data = make([]byte, 2*len(kzg4844.Blob{}))
	require.True(t, heavy(full))
	require.False(t, heavy(sign(t, "a", bare)))
	require.False(t, heavy(sign(t, "a", large)))
	require.False(t, heavy(nil))
}

// warmRules counts.
type warmRules struct {
	rulesFunc
	warmed chan struct{}
}

func (r *warmRules) Warm() { close(r.warmed) }

func TestTheRulesAreWarmedWhileOrdersAreTakenAlready(t *testing.T) {
	rules := &warmRules{rulesFunc: anything, warmed: make(chan struct{})}
	p := start(t, newStore(), 1, rules)
	p.bus.consume = func(context.Context, int, handler) error {
		<-rules.warmed
		return nil
	}
	require.NoError(t, p.Run(t.Context()))
}
