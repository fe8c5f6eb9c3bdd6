package egress

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

func TestRule11NothingStartsOnALostLease(t *testing.T) {
	to := &sink{reply: accept}
	bubble(t, to, func(_ *testing.T, s *store, r *running) {
		r.process.pmu.Lock()
		r.process.valid = false // expired, but the loop has not heard of it
		r.process.pmu.Unlock()
		put(s, spec{content: 1})
	})
	require.Empty(t, to.all())
}

func TestRule11AFencedOwnerStopsAndReadsAgain(t *testing.T) {
	to := &sink{reply: accept}
	s := bubble(t, to, func(_ *testing.T, s *store, _ *running) {
		s.set(func(s *store) { s.batches = append(s.batches, storedBatch{at: time.Now()}) }) // another's write
		put(s, spec{content: 1})
	})
	require.Len(t, s.entries(), 1)
	require.Len(t, to.all(), 2, "once by the owner that was fenced, once by the next")
	require.True(t, to.all()[1].repeat)
}

func TestRule12ANewOwnerSkipsWhatHasARecordEvenAfterALongAbsence(t *testing.T) {
	var s *store
	to := &sink{reply: accept}
	synctest.Test(t, func(t *testing.T) {
		s = newStore()
		s.ackLoss = true
		r := run(t, s, to, Config{})
		put(s, spec{content: 1})
		time.Sleep(time.Second)
		r.kill()
		r.stop()
		time.Sleep(time.Hour) // the record is far older than what a new owner reads at first
		put(s, spec{content: 2})
		s.ackLoss = false
		r = run(t, s, to, Config{})
		time.Sleep(3 * testAge)
		r.stop()
	})
	require.Len(t, s.entries(), 2, "one record each")
	require.Len(t, to.all(), 2)
	require.Zero(t, s.unacked())
	require.True(t, to.all()[1].repeat)
}

// The server was away for longer than anyone remembers; the copy is new in the stream.
func TestRule12AnotherCopyOfAnOrderThatEndedLongAgoHasOneRecord(t *testing.T) {
	to := &sink{reply: accept}
	s := bubble(t, to, func(t *testing.T, s *store, _ *running) {
		t.Helper()
		first := put(s, spec{content: 1})
		second := put(s, spec{content: 2})
		time.Sleep(10 * testAge)
		tails := 0
		s.set(func(s *store) { tails = s.tails })
		s.put(first)
		s.put(second)
		time.Sleep(testAge)
		require.Zero(t, s.unacked())
		s.set(func(s *store) { require.Equal(t, tails+1, s.tails, "the ledger is read once for both") })
	})
	require.Len(t, s.entries(), 2)
	require.Len(t, to.all(), 2)
}

// A former owner's request may have been taken and its record lost with the owner: whatever ends such
// an order without an answer says so.
func TestRule12WhatAFormerOwnerMayHaveSentEndsAmbiguous(t *testing.T) {
	var first, second, late, fresh *order.Order
	to := &sink{reply: accept}
	var s *store
	synctest.Test(t, func(t *testing.T) {
		s = newStore()
		s.refuse = context.DeadlineExceeded // taken by the target, recorded never
		r := run(t, s, to, Config{})
		time.Sleep(time.Second)
		first = put(s, spec{content: 1, key: 1, nonce: 1})
		synctest.Wait()
		second = put(s, spec{content: 2, key: 1, nonce: 2})
		late = put(s, spec{content: 3})
		time.Sleep(100 * time.Millisecond)
		require.Len(t, to.all(), 3)
		r.kill()
		r.stop()
		s.set(func(s *store) { s.refuse = nil })
		to.reply = func(_ int, a Attempt) (Result, time.Duration) {
			if a.Order.Accept == late.Accept {
				return Result{Verdict: Busy, Status: 503}, 0
			}
			return taken, 0
		}
		r = run(t, s, to, Config{})
		time.Sleep(time.Second)
		fresh = put(s, spec{content: 4, key: 1, nonce: 1})
		time.Sleep(3 * testAge)
		r.stop()
	})
	got := s.outcomes()
	require.Equal(t, ledger.Superseded, got[first.Accept].Outcome)
	require.True(t, got[first.Accept].Ambiguous)
	require.Equal(t, ledger.Delivered, got[second.Accept].Outcome)
	require.False(t, got[second.Accept].Ambiguous)
	require.Equal(t, ledger.Expired, got[late.Accept].Outcome)
	require.True(t, got[late.Accept].Ambiguous)
	require.Equal(t, ledger.Superseded, got[fresh.Accept].Outcome)
	require.False(t, got[fresh.Accept].Ambiguous, "nobody can have sent it")
}
