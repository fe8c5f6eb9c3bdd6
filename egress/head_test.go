package egress

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

// chainHead is a Head that a test moves.
type chainHead struct{ atomic.Uint64 }

func (c *chainHead) Block() uint64 { return c.Load() }

// runAt is a bubble whose loop knows the head of the chain.
func runAt(t *testing.T, head Head, to *sink, f func(s *store)) *store {
	t.Helper()
	var s *store
	synctest.Test(t, func(t *testing.T) {
		s = newStore()
		s.head = head
		r := run(t, s, to, Config{})
		time.Sleep(time.Second)
		f(s)
		time.Sleep(3 * testAge)
		r.stop()
	})
	return s
}

func putFor(s *store, content int, block uint64) *order.Order {
	o := spec{content: content}.order()
	o.TargetBlock = block
	s.put(o)
	return o
}

func TestAnOrderWhoseTargetBlockIsPastExpires(t *testing.T) {
	head := &chainHead{}
	head.Store(100)
	to := &sink{reply: accept}
	var past, now, next, always *order.Order
	s := runAt(t, head, to, func(s *store) {
		past, now, next, always = putFor(s, 1, 99), putFor(s, 2, 100), putFor(s, 3, 101), putFor(s, 4, 0)
	})
	for o, want := range map[*order.Order]ledger.Outcome{
		past: ledger.Expired, now: ledger.Expired, next: ledger.Delivered, always: ledger.Delivered,
	} {
		require.Equal(t, want, s.outcomes()[o.Accept].Outcome)
	}
	require.Equal(t, "target block 99 is past", s.outcomes()[past.Accept].Text)
	require.Zero(t, s.outcomes()[past.Accept].Attempts)
	require.Len(t, to.all(), 2)
	require.Zero(t, s.unacked())
}

func TestWithoutAHeadATargetBlockEndsNothing(t *testing.T) {
	for name, head := range map[string]Head{"no source": nil, "no answer yet": &chainHead{}} {
		t.Run(name, func(t *testing.T) {
			s := runAt(t, head, &sink{reply: accept}, func(s *store) { putFor(s, 1, 1) })
			require.Equal(t, ledger.Delivered, s.entries()[0].Outcome)
		})
	}
}

// What waits for a retry, in a queue or behind another is ended when the block comes, not at its
// deadline; what is on the wire when its answer says to try again.
func TestWhatWaitsEndsWhenItsTargetBlockComes(t *testing.T) {
	head := &chainHead{}
	head.Store(10)
	to := &sink{reply: func(int, Attempt) (Result, time.Duration) {
		return Result{Verdict: Busy, Status: 503, Text: "busy"}, 10 * time.Millisecond
	}}
	s := runAt(t, head, to, func(s *store) {
		for n := range 200 {
			putFor(s, n, 11)
		}
		stays := putFor(s, 1000, 12)
		time.Sleep(testAge / 8)
		require.Equal(t, 201, s.unacked())
		head.Store(11)
		time.Sleep(testAge * 3 / 4)
		require.Equal(t, 1, s.unacked())
		require.NotContains(t, s.outcomes(), stays.Accept)
		require.Equal(t, "target block 11 is past", s.entries()[0].Text)
	})
	require.Len(t, s.entries(), 201)
	for _, e := range s.entries() {
		require.Equal(t, ledger.Expired, e.Outcome)
	}
}

// The block comes between the queue and the request.
func TestTheLastLookBeforeARequestIsAtTheHead(t *testing.T) {
	head := &chainHead{}
	l := &loop{chain: head}
	require.False(t, l.mined(5))
	head.Store(5)
	require.True(t, l.mined(5))
	require.False(t, l.mined(0))
	require.False(t, (&loop{}).mined(5))
	reached := false
	l.valid, l.clock = func() bool { return true }, &process{}
	l.sender = func() Sender { reached = true; return nil }
	l.results = make(chan sent, 1)
	o := spec{content: 1}.order()
	l.send(context.Background(), shipment{it: &item{}, body: o, deadline: toMicros(o.Deadline), target: 5})
	require.True(t, (<-l.results).started.IsZero())
	require.False(t, reached)
}
