package workers

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/ledger"
	"millrace/internal/order"
	"millrace/internal/retry"
)

func refuseWith(r *order.Reason) rulesFunc {
	return func([]byte, order.Kind, time.Time) (order.TxInfo, error) { return order.TxInfo{}, r }
}

func TestRule08ASecondDeliveryRunsAsTheFirst(t *testing.T) {
	s := newStore()
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	require.NoError(t, start(t, s, 1, anything).deliver(delivery(o, 2)))
	require.Equal(t, []string{"look", "ok", "verdict"}, s.trail)
}

func TestRule08AThirdDeliveryIsMarkedWhileItRuns(t *testing.T) {
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	s := newStore()
	p := start(t, s, 1, rulesFunc(func([]byte, order.Kind, time.Time) (order.TxInfo, error) {
		require.Equal(t, map[order.AcceptID]int{o.Accept: 1}, s.marks)
		return order.TxInfo{}, nil
	}))
	require.NoError(t, p.deliver(delivery(o, suspectAfter)))
	require.Equal(t, []string{"look", "mark", "clear", "look", "ok", "verdict"}, s.trail)
	require.InDelta(t, 1, testutil.ToFloat64(p.metrics.suspects), 0)

	s = newStore()
	reason := order.Refuse(order.CodeGasLimit, "too much")
	p = start(t, s, 1, refuseWith(reason))
	require.Equal(t, reason, order.AsReason(p.deliver(delivery(o, suspectAfter))), "invalid is still invalid")
	require.Equal(t, []string{"look", "mark", "clear", "claim", "refusal", "record", "verdict"}, s.trail)
}

func TestRule08AnOrderThatKillsItsProcessAloneIsPoisoned(t *testing.T) {
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	innocent := acceptedBundle(t, sign(t, "b", legacyTx()))
	s := newStore()
	deadly := rulesFunc(func([]byte, order.Kind, time.Time) (order.TxInfo, error) {
		die()
		return order.TxInfo{}, nil
	})
	deliveries := 0
	for ; deliveries < suspectAfter-1; deliveries++ {
		require.ErrorIs(t, start(t, s, deliveries, deadly).deliver(delivery(o, deliveries+1)), errDied)
		require.Empty(t, s.marks, "killed among others: nobody can tell by whom")
	}
	require.ErrorIs(t, start(t, s, deliveries, deadly).deliver(delivery(o, deliveries+1)), errDied)
	require.Len(t, s.marks, 1)

	next := start(t, s, deliveries+1, deadly)
	require.Equal(t, order.CodePoisoned, order.AsReason(next.deliver(delivery(o, deliveries+2))).Code)
	require.Equal(t, ledger.Poisoned, s.records[o.Accept].Outcome)
	require.Equal(t, order.CodePoisoned, s.refusals[o.ID].Code)
	require.Equal(t, order.CodePoisoned, s.verdicts[0].Reason.Code)
	require.Empty(t, s.marks)
	require.InDelta(t, 1, testutil.ToFloat64(next.metrics.poisoned), 0)

	require.NoError(t, start(t, s, deliveries+2, anything).deliver(delivery(innocent, 5)))
	require.Len(t, s.ok, 1, "an order that came back as often for another's fault goes on")
}

func TestRule08OnlyTheOrderThatRanIsMarked(t *testing.T) {
	s := newStore()
	var running, most atomic.Int32
	p := start(t, s, 1, rulesFunc(func([]byte, order.Kind, time.Time) (order.TxInfo, error) {
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		for range 100 {
			runtime.Gosched()
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		require.Len(t, s.marks, 1)
		return order.TxInfo{}, nil
	}))
	var all sync.WaitGroup
	for i := range uint64(8) {
		o := acceptedBundle(t, sign(t, "a", dynamicTx(i)))
		all.Go(func() { require.NoError(t, p.deliver(delivery(o, suspectAfter))) })
	}
	all.Wait()
	require.EqualValues(t, 1, most.Load())
	require.Len(t, s.ok, 8)
	require.Empty(t, s.marks)
}

func TestRule08ASuspectRunsWithoutAnyOtherOrderBesideIt(t *testing.T) {
	s := newStore()
	var normal, suspect atomic.Int32
	suspectTx := sign(t, "suspect", legacyTx())
	p := start(t, s, 1, rulesFunc(func(raw []byte, _ order.Kind, _ time.Time) (order.TxInfo, error) {
		n := &normal
		if string(raw) == string(suspectTx) {
			n = &suspect
		}
		n.Add(1)
		defer n.Add(-1)
		for range 100 {
			runtime.Gosched()
			require.True(t, suspect.Load() == 0 || suspect.Load() == 1 && normal.Load() == 0, "an order beside a suspect")
		}
		return order.TxInfo{}, nil
	}))
	var all sync.WaitGroup
	for i := range uint64(40) {
		o := acceptedBundle(t, sign(t, "a", dynamicTx(2*i)), sign(t, "a", dynamicTx(2*i+1)))
		all.Go(func() { require.NoError(t, p.deliver(delivery(o, 1))) })
		if i%5 == 0 {
			o := acceptedBundle(t, suspectTx, suspectTx)
			all.Go(func() { require.NoError(t, p.deliver(delivery(o, suspectAfter))) })
		}
	}
	all.Wait()
}

// A suspect that waits for the lock must not keep an order that gives way from running what it gives
// way to, or the process would hang.
func TestGivingWayWhileASuspectWaitsDoesNotDeadlock(t *testing.T) {
	s := newStore()
	lowTx := sign(t, "a", dynamicTx(1))
	low := acceptedBundle(t, lowTx, sign(t, "a", dynamicTx(2)))
	high := acceptedBundle(t, sign(t, "a", dynamicTx(3)))
	suspect := acceptedBundle(t, sign(t, "a", dynamicTx(4)))
	var p process
	var all sync.WaitGroup
	p = start(t, s, 1, rulesFunc(func(raw []byte, _ order.Kind, _ time.Time) (order.TxInfo, error) {
		if string(raw) == string(lowTx) {
			all.Go(func() { require.NoError(t, p.deliver(delivery(suspect, suspectAfter))) })
			for p.alone.TryRLock() { // until the suspect stands in line
				p.alone.RUnlock()
				runtime.Gosched()
			}
		}
		return order.TxInfo{}, nil
	}))
	finish, err := p.handle(t.Context(), delivery(low, 1), func() { require.NoError(t, p.deliver(delivery(high, 1))) })
	require.NoError(t, err)
	require.NoError(t, finish(t.Context()))
	all.Wait()
	require.Len(t, s.ok, 3)
}

func TestAPanicAloneIsPoison(t *testing.T) {
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	s := newStore()
	p := start(t, s, 1, rulesFunc(func([]byte, order.Kind, time.Time) (order.TxInfo, error) { panic("bad input") }))
	for n := 1; n < suspectAfter; n++ {
		require.ErrorIs(t, p.deliver(delivery(o, n)), ErrPanic)
	}
	require.Equal(t, order.CodePoisoned, order.AsReason(p.deliver(delivery(o, suspectAfter))).Code)
	require.Equal(t, ledger.Poisoned, s.records[o.Accept].Outcome)
	require.Empty(t, s.marks)
	require.InDelta(t, suspectAfter, testutil.ToFloat64(p.metrics.panics), 0)
}

func TestPoisonIsRememberedUntilItsRecordIsStored(t *testing.T) {
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	s := newStore()
	s.marks[o.Accept] = 1
	s.fail = func(effect string, _ bool) error {
		if effect == "record" {
			return errDown
		}
		return nil
	}
	never := rulesFunc(func([]byte, order.Kind, time.Time) (order.TxInfo, error) {
		t.Error("poison must not run again")
		return order.TxInfo{}, nil
	})
	p := start(t, s, 2, never)
	for n := 4; n < 7; n++ {
		require.ErrorIs(t, p.deliver(delivery(o, n)), errDown)
	}
	s.fail = nil
	require.Equal(t, order.CodePoisoned, order.AsReason(p.deliver(delivery(o, 7))).Code)
	require.Empty(t, p.condemned.ids)
	require.Empty(t, s.marks)
}

func TestRule08AMarkThatCantBeStoredOrRemovedHoldsTheOrderBack(t *testing.T) {
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	for _, effect := range []string{"mark", "clear"} {
		for _, after := range []bool{false, true} {
			s := newStore()
			s.fail = func(e string, done bool) error {
				if e == effect && done == after {
					return errDown
				}
				return nil
			}
			p := start(t, s, 1, anything)
			err := p.deliver(delivery(o, suspectAfter))
			require.ErrorIs(t, err, errDown)
			require.Nil(t, order.AsReason(err))
			require.Empty(t, s.ok)
			s.fail = nil
			require.NoError(t, p.deliver(delivery(o, suspectAfter+1)), "the same life does not accuse it")
			require.Empty(t, s.marks)
		}
	}
}

// While the process that set the mark may be alive nothing is decided, and the mark, which is the
// evidence if that process is dead, stays.
func TestRule08AnotherProcessesMarkIsLeftAlone(t *testing.T) {
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	s := newStore()
	s.marks[o.Accept] = 1
	s.fail = func(effect string, _ bool) error {
		if effect == "mark" {
			return retry.After(errors.New("may be alive"), time.Second)
		}
		return nil
	}
	p := start(t, s, 2, anything)
	err := p.deliver(delivery(o, 4))
	d, ok := retry.Delay(err)
	require.True(t, ok)
	require.Equal(t, time.Second, d)
	require.Equal(t, map[order.AcceptID]int{o.Accept: 1}, s.marks)
	s.fail = nil
	require.Equal(t, order.CodePoisoned, order.AsReason(p.deliver(delivery(o, 5))).Code)
}

// A process that stops in peace leaves no mark: the next life would take the order for a killer.
func TestRule08StoppingWhileASuspectRunsLeavesNoMark(t *testing.T) {
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	s := newStore()
	ctx, cancel := context.WithCancel(t.Context())
	p := start(t, s, 1, rulesFunc(func([]byte, order.Kind, time.Time) (order.TxInfo, error) {
		cancel()
		return order.TxInfo{}, nil
	}))
	finish, err := p.handle(ctx, delivery(o, suspectAfter), func() {})
	require.NoError(t, err)
	require.ErrorIs(t, finish(ctx), context.Canceled)
	require.Empty(t, s.marks)
	require.NoError(t, start(t, s, 2, anything).deliver(delivery(o, suspectAfter+1)))
}

func TestASuspectThatWaitsEndsWithItsContext(t *testing.T) {
	p := start(t, newStore(), 1, anything)
	p.suspect <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	finish, err := p.handle(ctx, delivery(acceptedBundle(t, sign(t, "a", legacyTx())), suspectAfter), nil)
	require.NoError(t, err)
	require.ErrorIs(t, finish(ctx), context.Canceled)
}

func TestCondemnedAreBounded(t *testing.T) {
	var c condemned
	for range maxCondemned + 10 {
		c.add(order.NewAcceptID(testNow))
	}
	require.Len(t, c.ids, maxCondemned)
	require.NotErrorIs(t, ErrPanic, errPoison)
}

func TestRule08AnOrderThatWasPoisonedDoesNotRunAgain(t *testing.T) {
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	s := newStore()
	s.marks[o.Accept] = 1
	p := start(t, s, 2, anything)
	require.Equal(t, order.CodePoisoned, order.AsReason(p.deliver(delivery(o, 4))).Code)
	s.marks[o.Accept] = 2 // it died before it took the mark away
	never := rulesFunc(func([]byte, order.Kind, time.Time) (order.TxInfo, error) {
		t.Error("poison must not run again")
		return order.TxInfo{}, nil
	})
	require.NoError(t, start(t, s, 3, never).deliver(delivery(o, 5)))
	require.Empty(t, s.marks)
	require.Len(t, s.records, 1)
}

// The hole (b) of the two that this rule had: see TestRule08AnOrderThatIsInOKIsNotPoisonedBesides.
func TestRule08AnOrderThatIsInOKIsAcquitted(t *testing.T) {
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	s := newStore()
	require.NoError(t, start(t, s, 1, anything).deliver(delivery(o, 1)))
	s.marks[o.Accept] = 1
	s.trail = nil
	p := start(t, s, 2, anything)
	require.NoError(t, p.deliver(delivery(o, 4)))
	require.Equal(t, []string{"look", "mark", "claim", "clear"}, s.trail)
	require.Empty(t, s.records)
	require.Empty(t, s.refusals)
	require.Zero(t, testutil.ToFloat64(p.metrics.poisoned))
}

// Two processes hold one suspect, because the first was frozen for so long that it counted as dead.
func TestRule08ASuspectWhoseWorkerWakesUpAfterItsPoisoningHasOneEnd(t *testing.T) {
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	s := newStore()
	var other process
	slept := false
	p := start(t, s, 1, rulesFunc(func([]byte, order.Kind, time.Time) (order.TxInfo, error) {
		if !slept {
			slept = true
			require.Equal(t, order.CodePoisoned, order.AsReason(other.deliver(delivery(o, 4))).Code)
		}
		return order.TxInfo{}, nil
	}))
	other = start(t, s, 2, anything)
	err := p.deliver(delivery(o, 3))
	require.True(t, err == nil || order.AsReason(err).Code == order.CodePoisoned, "%v", err)
	require.Empty(t, s.ok)
	require.Len(t, s.records, 1)
}
