package egress

import (
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

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
