package workers

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

func TestAValidatedOrderCarriesItsTrail(t *testing.T) {
	s := newStore()
	p := start(t, s, 1, realRules(t))
	first, second := sign(t, "a", dynamicTx(1)), sign(t, "b", legacyTx())
	o := acceptedBundle(t, first, second)
	require.NoError(t, p.deliver(delivery(o, 2)))
	require.Len(t, s.ok, 1)
	for _, ok := range s.ok {
		require.Equal(t, &order.Trail{
			InSequence: 1, InStoredAt: o.ReceivedAt, DecidedAt: testNow, Attempts: 2, Marks: marksOf(first, second),
		}, ok.Trail)
	}
}

func TestATransactionsOwnHashNeedsNoMark(t *testing.T) {
	s := newStore()
	p := start(t, s, 1, realRules(t))
	o := accepted(t, order.MethodSendRawTransaction, rawBody(sign(t, "a", dynamicTx(1))))
	require.NoError(t, p.deliver(delivery(o, 1)))
	for _, ok := range s.ok {
		require.Empty(t, ok.Trail.Marks)
		require.Equal(t, uint64(1), ok.Trail.InSequence)
	}
}

func TestARefusedOrderNamesWhatWasCheckedUpToTheCulprit(t *testing.T) {
	s := newStore()
	p := start(t, s, 1, realRules(t))
	good, unpaid, unseen := sign(t, "a", dynamicTx(1)), dynamicTx(2), sign(t, "c", legacyTx())
	unpaid.Gas = 1
	bad := sign(t, "b", unpaid)
	o := acceptedBundle(t, good, bad, unseen)
	require.NotNil(t, order.AsReason(p.deliver(delivery(o, 1))))
	require.Equal(t, ledger.Invalid, s.records[o.Accept].Outcome)
	require.Equal(t, marksOf(good, bad), s.trails[o.Accept].Marks)
}

func TestAnOrderThatExpiredUnseenHasATrailToo(t *testing.T) {
	s := newStore()
	p := start(t, s, 1, anything)
	o := acceptedBundle(t, sign(t, "a", dynamicTx(1)))
	s.advance(testMaxAge + time.Second)
	require.NotNil(t, order.AsReason(p.deliver(delivery(o, 1))))
	require.Equal(t, &order.Trail{InSequence: 1, InStoredAt: o.ReceivedAt, Attempts: 1}, s.trails[o.Accept])
}

func marksOf(txs ...[]byte) (marks []byte) {
	for _, raw := range txs {
		h := order.TransactionHash(raw)
		marks = append(marks, h[:order.MarkSize]...)
	}
	return marks
}
