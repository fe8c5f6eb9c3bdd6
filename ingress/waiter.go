package ingress

import (
	"sync"
	"time"

	"millrace/internal/order"
)

// waiters are the acceptances that wait for their verdict. Bounded by the requests in flight.
type waiters struct {
	pool sync.Pool // of *waiter

	mu       sync.Mutex
	byAccept map[order.AcceptID]*waiter
}

// waiter waits for one verdict, with a timer that is used again.
type waiter struct {
	verdict chan order.Verdict // of one; filled only by who takes the waiter out of the map
	timer   *time.Timer
}

func newWaiters() *waiters {
	ws := &waiters{byAccept: make(map[order.AcceptID]*waiter)}
	ws.pool.New = func() any {
		w := &waiter{verdict: make(chan order.Verdict, 1), timer: time.NewTimer(time.Hour)}
		w.timer.Stop()
		return w
	}
	return ws
}

func (ws *waiters) len() int {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return len(ws.byAccept)
}

// expect registers for a's verdict, before the order is published: a verdict may come back sooner
// than the store's acknowledgement.
func (ws *waiters) expect(a order.AcceptID) *waiter {
	w, _ := ws.pool.Get().(*waiter)
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.byAccept[a] = w
	return w
}

// deliver hands v to who waits for it; false: nobody does.
func (ws *waiters) deliver(v order.Verdict) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w, ok := ws.byAccept[v.Accept]
	if ok {
		delete(ws.byAccept, v.Accept)
		w.verdict <- v
	}
	return ok
}

// wait waits until the deadline and ends the registration; ok is false when no verdict came.
func (ws *waiters) wait(a order.AcceptID, w *waiter, deadline time.Time) (v order.Verdict, ok bool) {
	if left := time.Until(deadline); left > 0 {
		w.timer.Reset(left)
		select {
		case v = <-w.verdict:
			ok = true
		case <-w.timer.C:
		}
		w.timer.Stop()
	}
	ws.mu.Lock()
	delete(ws.byAccept, a)
	ws.mu.Unlock()
	if !ok { // it may have been delivered before the registration ended
		select {
		case v = <-w.verdict:
			ok = true
		default:
		}
	}
	ws.pool.Put(w)
	return v, ok
}
