package egress

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

// outcomes maps acceptances to their records.
func (s *store) outcomes() map[order.AcceptID]ledger.Entry {
	m := map[order.AcceptID]ledger.Entry{}
	for _, e := range s.entries() {
		m[e.Accept] = e
	}
	return m
}

// script answers the requests in turn, the last answer for ever.
func script(rs ...Result) func(int, Attempt) (Result, time.Duration) {
	return func(n int, _ Attempt) (Result, time.Duration) { return rs[min(n, len(rs)-1)], 0 }
}

var (
	taken   = Result{Verdict: Accepted, Status: 200}
	refused = Result{Verdict: Rejected, Status: 200, RPCCode: -32000, Text: "no"}
	busy    = Result{Verdict: Busy, Status: 503}
	away    = Result{Verdict: Unreachable}
	lost    = Result{Verdict: Lost}
)

// bubble runs one target over a store in fake time; f stores orders and looks on.
func bubble(t *testing.T, to *sink, f func(t *testing.T, s *store, r *running)) *store {
	t.Helper()
	var s *store
	synctest.Test(t, func(t *testing.T) {
		s = newStore()
		r := run(t, s, to, Config{})
		time.Sleep(time.Second) // the backlog counts as read
		f(t, s, r)
		time.Sleep(3 * testAge)
		r.stop()
	})
	return s
}

func put(s *store, sp spec) *order.Order {
	o := sp.order()
	s.put(o)
	return o
}

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

func TestRule13RecordsAreWrittenInBatchesBeforeTheAcks(t *testing.T) {
	to := &sink{reply: accept}
	s := bubble(t, to, func(t *testing.T, s *store, _ *running) {
		t.Helper()
		for n := range 640 {
			put(s, spec{content: n})
		}
		time.Sleep(time.Second)
		require.Zero(t, s.unacked())
	})
	require.Len(t, s.entries(), 640)
	require.LessOrEqual(t, len(s.batches), 30)
}

func TestRule13SendsPauseWhenAWindowIsUnrecorded(t *testing.T) {
	to := &sink{reply: accept}
	s := bubble(t, to, func(t *testing.T, s *store, _ *running) {
		t.Helper()
		s.set(func(s *store) { s.refuse = context.DeadlineExceeded })
		for n := range 1000 {
			put(s, spec{content: n})
		}
		time.Sleep(time.Second)
		require.Len(t, to.all(), 256)
		require.Equal(t, 1000, s.unacked())
		s.set(func(s *store) { s.refuse = nil })
	})
	require.Len(t, s.entries(), 1000)
	require.Len(t, s.outcomes(), 1000)
}

func TestRule14ANewerOrderWaitsForTheOneOnTheWire(t *testing.T) {
	to := &sink{reply: func(int, Attempt) (Result, time.Duration) { return taken, 100 * time.Millisecond }}
	s := bubble(t, to, func(_ *testing.T, s *store, _ *running) {
		put(s, spec{content: 1, key: 1, nonce: 1})
		synctest.Wait()
		for _, nonce := range []uint64{2, 4, 3} {
			put(s, spec{content: int(nonce), key: 1, nonce: nonce})
		}
	})
	require.Equal(t, []uint64{1, 4}, nonces(to))
	require.Zero(t, to.twice)
	require.Equal(t, 2, count(s, ledger.Superseded))
}

func TestRule14ANewerOrderPassesAnOlderInBackoff(t *testing.T) {
	for name, c := range map[string]struct {
		answers []Result
		want    []uint64
		late    ledger.Outcome
	}{
		"and supersedes it when it is taken":      {[]Result{busy, taken}, []uint64{1, 2}, ledger.Superseded},
		"which goes on when the newer is refused": {[]Result{busy, refused, taken}, []uint64{1, 2, 1}, ledger.Delivered},
	} {
		t.Run(name, func(t *testing.T) {
			to := &sink{reply: script(c.answers...)}
			var older *order.Order
			s := bubble(t, to, func(_ *testing.T, s *store, _ *running) {
				older = put(s, spec{content: 1, key: 1, nonce: 1})
				synctest.Wait()
				put(s, spec{content: 2, key: 1, nonce: 2})
			})
			require.Equal(t, c.want, nonces(to))
			require.Equal(t, c.late, s.outcomes()[older.Accept].Outcome)
		})
	}
}

func TestRule14APeersOrderNeverSupersedesALocalOne(t *testing.T) {
	to := &sink{reply: accept}
	s := bubble(t, to, func(_ *testing.T, s *store, _ *running) {
		put(s, spec{content: 1, key: 1, nonce: 9, origin: "peer"})
		synctest.Wait()
		put(s, spec{content: 2, key: 1, nonce: 1})
	})
	require.Equal(t, 2, count(s, ledger.Delivered))
}

func TestRule14TheFloorOutlivesTheOwner(t *testing.T) {
	var s *store
	to := &sink{reply: accept}
	synctest.Test(t, func(t *testing.T) {
		s = newStore()
		r := run(t, s, to, Config{})
		put(s, spec{content: 1, key: 1, nonce: 5})
		time.Sleep(500 * time.Millisecond)
		r.kill()
		r.stop()
		r = run(t, s, to, Config{})
		put(s, spec{content: 2, key: 1, nonce: 4})
		time.Sleep(3 * testAge)
		r.stop()
	})
	require.Equal(t, []uint64{5}, nonces(to))
	require.Equal(t, 1, count(s, ledger.Superseded))
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

func TestRule16NewestFirstAfterAnOutage(t *testing.T) {
	down := true
	to := &sink{reply: func(int, Attempt) (Result, time.Duration) {
		if down {
			return away, 0
		}
		return taken, 10 * time.Millisecond
	}}
	var accepted []int
	s := bubble(t, to, func(_ *testing.T, s *store, r *running) {
		for n := range 200 {
			put(s, spec{content: n, key: n%200 + 1, nonce: uint64(n), age: 30 * time.Second})
		}
		time.Sleep(time.Second)
		require.Equal(t, []string{"b"}, r.d.Down())
		require.Less(t, len(to.all()), 70, "one at a time while it is down")
		to.mu.Lock()
		down = false
		to.mu.Unlock()
		time.Sleep(5 * time.Second)
		require.Empty(t, r.d.Down())
	})
	for _, c := range to.all() {
		if c.verdict == Accepted {
			accepted = append(accepted, int(c.o.Nonce))
		}
	}
	require.Len(t, accepted, 200)
	require.Equal(t, 199, accepted[0])
	require.True(t, slices.IsSortedFunc(accepted[:100], func(a, b int) int { return b - a }) || accepted[99] < 120)
	require.Equal(t, 200, count(s, ledger.Delivered))
}

func TestADownTargetNeverStopsTheAccounting(t *testing.T) {
	to := &sink{reply: script(away)}
	s := bubble(t, to, func(t *testing.T, s *store, _ *running) {
		t.Helper()
		for n := range 5000 {
			put(s, spec{content: n})
		}
		time.Sleep(testAge + time.Second)
		require.Zero(t, s.unacked())
	})
	require.Equal(t, 5000, count(s, ledger.Expired))
	require.Less(t, len(to.all()), 100)
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

func TestRule17ARemovedTargetEndsWhatItIsOwed(t *testing.T) {
	to := &sink{reply: script(away)}
	s := bubble(t, to, func(t *testing.T, s *store, r *running) {
		t.Helper()
		for n := range 300 {
			put(s, spec{content: n, key: n%5 + 1, nonce: uint64(n)})
		}
		time.Sleep(100 * time.Millisecond)
		require.NoError(t, r.d.Reload(nil))
		time.Sleep(time.Second)
		require.Zero(t, s.unacked())
	})
	require.True(t, s.removed)
	require.Equal(t, 300, count(s, ledger.TargetRemoved))
	require.Len(t, s.outcomes(), 300)
}

func TestRule17ARemovalEndsAlthoughOrdersKeepComing(t *testing.T) {
	to := &sink{reply: accept}
	bubble(t, to, func(t *testing.T, s *store, r *running) {
		t.Helper()
		require.NoError(t, r.d.Reload(nil))
		for n := range 200 {
			time.Sleep(10 * time.Millisecond)
			put(s, spec{content: n})
		}
		s.set(func(s *store) { require.True(t, s.removed) })
	})
}

func TestRule17AReloadedTargetStartsAndAnotherURLIsAnotherTarget(t *testing.T) {
	to, other := &sink{reply: accept}, &sink{reply: accept}
	s := bubble(t, to, func(t *testing.T, s *store, r *running) {
		t.Helper()
		require.Error(t, r.d.Reload([]Destination{{Name: "b"}}))
		require.NoError(t, r.d.Reload([]Destination{{Name: "b", Fingerprint: "f", Sender: other}}))
		synctest.Wait()
		put(s, spec{content: 1})
		synctest.Wait()
		require.Len(t, other.all(), 1, "the same target, the new sender")
		s.set(func(s *store) { require.False(t, s.removed) })
		require.NoError(t, r.d.Reload([]Destination{{Name: "b", Fingerprint: "g", Sender: to}}))
		time.Sleep(time.Second)
		s.set(func(s *store) { require.True(t, s.removed) })
		put(s, spec{content: 2})
	})
	require.Len(t, to.all(), 1)
	require.Len(t, s.outcomes(), 2)
}

func TestShutdownWaitsForWhatIsOnTheWireAndRecordsIt(t *testing.T) {
	to := &sink{reply: func(int, Attempt) (Result, time.Duration) { return taken, time.Second }}
	var s *store
	synctest.Test(t, func(t *testing.T) {
		s = newStore()
		r := run(t, s, to, Config{})
		put(s, spec{content: 1})
		synctest.Wait()
		put(s, spec{content: 2, age: time.Minute})
		synctest.Wait()
		began := time.Now()
		r.stop()
		require.Less(t, time.Since(began), 2*time.Second)
	})
	require.Equal(t, 2, count(s, ledger.Delivered))
	require.Zero(t, s.unacked())
}

func TestOneDeadTargetAffectsNoOther(t *testing.T) {
	var s1, s2 *store
	dead, well := &sink{reply: func(int, Attempt) (Result, time.Duration) { return lost, time.Hour }}, &sink{reply: accept}
	synctest.Test(t, func(t *testing.T) {
		s1, s2 = newStore(), newStore()
		p1, p2 := &process{store: s1}, &process{store: s2}
		ports := p1.ports()
		ports.Lease = leases{"target-dead": p1, "target-well": p2}
		ports.Feed = func(n, _ string) Feed { return &feed{process: leases{"dead": p1, "well": p2}[n]} }
		ports.Log = func(n string) Log { return &doneLog{process: leases{"dead": p1, "well": p2}[n]} }
		d, err := New(Config{MaxAge: testAge, Drain: time.Second}, ports, []Destination{
			{Name: "dead", Fingerprint: "1", Sender: dead}, {Name: "well", Fingerprint: "2", Sender: well},
		}, nil, prometheus.NewRegistry())
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		for n := range 500 {
			put(s1, spec{content: n})
			put(s2, spec{content: n})
		}
		synctest.Wait()
		require.Len(t, well.all(), 500)
		cancel()
		require.NoError(t, <-ended)
	})
	require.Equal(t, 500, count(s2, ledger.Delivered))
}

type leases map[string]*process

func (l leases) Hold(ctx context.Context, name string, f func(context.Context, func() bool) error) error {
	return l[name].Hold(ctx, name, f)
}

func TestAWaitingOrderIsSmall(t *testing.T) {
	require.LessOrEqual(t, int(unsafe.Sizeof(item{})), 400)
}

func TestBodiesOfWaitingOrdersAreBoundedAndReadAgain(t *testing.T) {
	down := true
	to := &sink{reply: func(int, Attempt) (Result, time.Duration) {
		if down {
			return away, 0
		}
		return taken, 0
	}}
	var s *store
	synctest.Test(t, func(t *testing.T) {
		s = newStore()
		r := run(t, s, to, Config{CacheBytes: 1000})
		for n := range 100 {
			put(s, spec{content: n})
		}
		time.Sleep(time.Second)
		to.mu.Lock()
		down = false
		to.mu.Unlock()
		time.Sleep(3 * testAge)
		r.stop()
	})
	require.Equal(t, 100, count(s, ledger.Delivered))
	require.Greater(t, s.bodies, 80)
}

func TestNewRefusesWhatCanNotWork(t *testing.T) {
	p := &process{store: newStore()}
	reg := prometheus.NewRegistry()
	_, err := New(Config{}, Ports{}, nil, nil, reg)
	require.ErrorContains(t, err, "port")
	_, err = New(Config{Window: 1, RetryMin: time.Hour, InFlight: -1}, p.ports(), []Destination{{}}, nil, reg)
	for _, text := range []string{"window", "retry_max", "in_flight", "incomplete"} {
		require.ErrorContains(t, err, text)
	}
	two := Destination{Name: "a", Fingerprint: "f", Sender: &sink{}}
	_, err = New(Config{}, p.ports(), []Destination{two, two}, nil, reg)
	require.ErrorContains(t, err, "two destinations")
}

func nonces(to *sink) []uint64 {
	var ns []uint64
	for _, c := range to.all() {
		ns = append(ns, c.o.Nonce)
	}
	return ns
}

func count(s *store, outcome ledger.Outcome) (n int) {
	for _, e := range s.entries() {
		if e.Outcome == outcome {
			n++
		}
	}
	return n
}

// A tapped order says nothing of those that the consumer has not brought yet.
func TestRule21WhatComesAheadEndsOnceAndIsNoNewsOfTheBacklog(t *testing.T) {
	l := &loop{mem: newMemory(micros(testAge.Microseconds()))}
	var o *order.Order
	to := &sink{reply: accept}
	s := bubble(t, to, func(_ *testing.T, s *store, _ *running) {
		s.set(func(s *store) { s.ahead = true })
		o = put(s, spec{content: 1})
	})
	require.Len(t, to.all(), 1)
	require.Equal(t, o.Body, to.all()[0].o.Body)
	require.Equal(t, ledger.Delivered, s.outcomes()[o.Accept].Outcome)
	require.Zero(t, s.unacked())
	require.Zero(t, s.bodies)

	l.clock, l.timers, l.pending = &process{store: s}, newTimers(), map[order.AcceptID]*item{}
	l.metrics, l.stage = newMetrics(prometheus.NewRegistry()).of("b"), stageServing
	now := time.Now()
	fresh := order.Delivery{Order: spec{content: 2}.order(), Sequence: 9, StoredAt: now}
	_, err := l.arrive(t.Context(), order.PriorityMedium, fresh)
	require.NoError(t, err)
	require.False(t, l.fresh[order.PriorityMedium])
	require.Zero(t, l.highest[order.PriorityMedium])
	fresh.Order, fresh.Sequence, fresh.Deliveries = spec{content: 3}.order(), 8, 1
	_, err = l.arrive(t.Context(), order.PriorityMedium, fresh)
	require.NoError(t, err)
	require.True(t, l.fresh[order.PriorityMedium])
	require.Equal(t, uint64(8), l.highest[order.PriorityMedium])
}

// What comes without its body is read when it is sent.
func TestAnOrderWithoutItsBodyIsReadWhenItIsSent(t *testing.T) {
	to := &sink{reply: accept}
	var s *store
	var o *order.Order
	synctest.Test(t, func(t *testing.T) {
		s = newStore()
		s.ahead = true
		o = put(s, spec{content: 1}) // before anybody receives: nobody can tap it
		r := run(t, s, to, Config{})
		time.Sleep(time.Second)
		r.stop()
	})
	require.Len(t, to.all(), 1)
	require.Equal(t, o.Body, to.all()[0].o.Body)
	require.Equal(t, 1, s.bodies)
}
