package egress

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

func TestRule02NothingStartsAfterTheDeadline(t *testing.T) {
	to := &sink{reply: accept}
	var o *order.Order
	s := bubble(t, to, func(_ *testing.T, s *store, _ *running) {
		o = put(s, spec{content: 1, age: time.Nanosecond})
	})
	require.Empty(t, to.all())
	require.Equal(t, ledger.Expired, s.outcomes()[o.Accept].Outcome)
}

func TestRule03CancelUpdateCancelAgainIsNeverARepeat(t *testing.T) {
	to := &sink{reply: accept}
	s := bubble(t, to, func(_ *testing.T, s *store, _ *running) {
		for n, content := range []int{1, 2, 1} { // the same content twice: the same Key, another nonce and ID
			put(s, spec{content: content, key: 1, nonce: uint64(n + 1)})
			synctest.Wait()
		}
	})
	require.Len(t, to.all(), 3)
	for _, e := range s.entries() {
		require.Equal(t, ledger.Delivered, e.Outcome)
	}
}

// Rule 10: a resend in another class and a copy by another path reach the target once; which is the
// duplicate of which is recorded.
func TestRule10CopiesReachATargetOnce(t *testing.T) {
	to := &sink{reply: accept}
	var first, resent, peers *order.Order
	s := bubble(t, to, func(_ *testing.T, s *store, _ *running) {
		first = put(s, spec{content: 1})
		synctest.Wait()
		resent = put(s, spec{content: 1, priority: order.PriorityHigh})
		peers = put(s, spec{content: 1, origin: "peer", priority: order.PriorityLow})
	})
	require.Len(t, to.all(), 1)
	ends := s.outcomes()
	for _, o := range []*order.Order{resent, peers} {
		require.Equal(t, ledger.Duplicate, ends[o.Accept].Outcome)
		require.Equal(t, first.Accept, ends[o.Accept].Of)
	}
}

func TestRule10ACopyWaitsForTheOneOnTheWire(t *testing.T) {
	for name, c := range map[string]struct {
		first Result
		sends int
		want  ledger.Outcome
	}{
		"taken":   {taken, 1, ledger.Duplicate},
		"refused": {refused, 1, ledger.Duplicate},
	} {
		t.Run(name, func(t *testing.T) {
			to := &sink{reply: func(int, Attempt) (Result, time.Duration) { return c.first, 500 * time.Millisecond }}
			var second *order.Order
			s := bubble(t, to, func(_ *testing.T, s *store, _ *running) {
				put(s, spec{content: 1})
				synctest.Wait()
				second = put(s, spec{content: 1, priority: order.PriorityHigh})
			})
			require.Len(t, to.all(), c.sends)
			require.Equal(t, c.want, s.outcomes()[second.Accept].Outcome)
		})
	}
}

func TestRule10AnExpiredCopySuppressesNothing(t *testing.T) {
	to := &sink{reply: script(busy, taken)}
	var first, second *order.Order
	s := bubble(t, to, func(_ *testing.T, s *store, _ *running) {
		first = put(s, spec{content: 1, age: 10 * time.Millisecond})
		synctest.Wait()
		second = put(s, spec{content: 1, priority: order.PriorityHigh})
	})
	require.Equal(t, ledger.Expired, s.outcomes()[first.Accept].Outcome)
	require.Equal(t, ledger.Delivered, s.outcomes()[second.Accept].Outcome)
}

func TestRule10ExplicitNonceABAReachesATargetOnce(t *testing.T) {
	to := &sink{reply: accept}
	s := bubble(t, to, func(_ *testing.T, s *store, _ *running) {
		for _, content := range []int{1, 2, 1} {
			put(s, spec{content: content, key: 1, nonce: 7})
			synctest.Wait()
		}
	})
	require.Len(t, to.all(), 1)
	got := []ledger.Outcome{}
	for _, e := range s.entries() {
		got = append(got, e.Outcome)
	}
	require.ElementsMatch(t, []ledger.Outcome{ledger.Delivered, ledger.Superseded, ledger.Duplicate}, got)
}

func TestRule15TwoMoreSendsAfterALostOneThenAmbiguous(t *testing.T) {
	to := &sink{reply: script(lost)}
	var o *order.Order
	s := bubble(t, to, func(_ *testing.T, s *store, _ *running) { o = put(s, spec{content: 1, key: 1, nonce: 2}) })
	require.Len(t, to.all(), 3)
	require.True(t, to.all()[1].repeat)
	e := s.outcomes()[o.Accept]
	require.Equal(t, ledger.Expired, e.Outcome)
	require.True(t, e.Ambiguous)
	require.EqualValues(t, 3, e.Attempts)
}

func TestRule15AnOlderOrderNeverFollowsAnAmbiguousOne(t *testing.T) {
	to := &sink{reply: script(lost)}
	var older *order.Order
	s := bubble(t, to, func(_ *testing.T, s *store, _ *running) {
		put(s, spec{content: 2, key: 1, nonce: 2})
		synctest.Wait()
		older = put(s, spec{content: 1, key: 1, nonce: 1})
	})
	require.Equal(t, []uint64{2, 2, 2}, nonces(to))
	require.Equal(t, ledger.Superseded, s.outcomes()[older.Accept].Outcome)
}

func TestRule15ARefusalIsRecordedAndNotRepeated(t *testing.T) {
	to := &sink{reply: script(refused)}
	s := bubble(t, to, func(_ *testing.T, s *store, _ *running) { put(s, spec{content: 1}) })
	require.Len(t, to.all(), 1)
	e := s.entries()[0]
	require.Equal(t, ledger.Refused, e.Outcome)
	require.EqualValues(t, -32000, e.RPCCode)
	require.Equal(t, "no", e.Text)
}

func TestRule15RetryAfterIsHonoured(t *testing.T) {
	late := busy
	late.RetryAfter = 1500 * time.Millisecond
	to := &sink{reply: script(late, taken)}
	bubble(t, to, func(_ *testing.T, s *store, _ *running) { put(s, spec{content: 1}) })
	sends := to.all()
	require.Len(t, sends, 2)
	require.Equal(t, 1500*time.Millisecond, sends[1].at.Sub(sends[0].at))
}

// A builder of 50 ms with its in-flight full of low: a high order takes one service time.
func TestLowInFlightNeverHoldsBackAHighOne(t *testing.T) {
	const service = 50 * time.Millisecond
	to := &sink{reply: func(int, Attempt) (Result, time.Duration) { return taken, service }}
	var most time.Duration
	bubble(t, to, func(t *testing.T, s *store, _ *running) {
		t.Helper()
		for n := range 2000 {
			put(s, spec{content: n, priority: order.PriorityLow})
		}
		for n := range 20 {
			time.Sleep(7 * time.Millisecond)
			o := put(s, spec{content: 10_000 + n, priority: order.PriorityHigh})
			for s.outcomes()[o.Accept].Outcome != ledger.Delivered {
				time.Sleep(time.Millisecond)
			}
			e := s.outcomes()[o.Accept]
			most = max(most, e.DoneAt.Sub(e.StoredAt))
		}
		to.mu.Lock()
		defer to.mu.Unlock()
		require.LessOrEqual(t, to.open[order.PriorityLow], 32)
	})
	require.LessOrEqual(t, most, 2*service)
}
