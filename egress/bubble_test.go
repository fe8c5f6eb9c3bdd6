package egress

import (
	"testing"
	"testing/synctest"
	"time"

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
