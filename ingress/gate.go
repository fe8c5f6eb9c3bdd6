package ingress

import (
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"
)

// fairShare is one in how many turns goes to the request that waits longest instead of the best
// known sender, so that nobody starves.
const fairShare = 8

// rank orders those who wait for a CPU; the smallest goes first. See rankOf.
type rank uint64

// gate lets a bounded number of requests use the CPU at once and the others wait by rank. At most
// limit wait; when one more comes, the worst of all is refused. Nobody waits longer than its
// deadline.
//
// A slot is given back when the CPU's work is done. A request that is not of the best class also takes a
// place of its lot, which it keeps until it is answered: however many such requests come, what they make
// anybody else wait for anywhere in this process is bounded by the number of places. Unknown senders
// have other places than low ones, which are often answered late.
type gate struct {
	limit int

	mu   sync.Mutex
	free int // slots
	lots [lots]lot
	turn uint64 // grants so far
	next uint64 // arrival number
}

// The lots, the more urgent first.
const (
	lotGood    = iota // needs no place
	lotUnknown        // never seen
	lotLow            // mostly low orders, or a bad score

	lots
)

// lot is one kind of requests at the gate.
type lot struct {
	queue  waitlist
	places int // free ones; below zero while more are taken than there should be
	size   int // of places
	rest   time.Duration
	came   time.Time // when a request came last
}

// candidate waits at the gate; granted gets true for a slot, false for a refusal.
type candidate struct {
	rank    rank
	arrival uint64
	index   int // in its lot's heap; -1: decided
	granted chan bool
}

// newGate returns a gate with so many places for each lot that needs them.
func newGate(slots, limit, places int) *gate {
	g := &gate{free: slots, limit: limit}
	for i := range g.lots {
		g.lots[i] = lot{queue: make(waitlist, 0, limit), places: places, size: places}
	}
	return g
}

// lot is where requests of this rank belong.
func (r rank) lot() int {
	switch r >> rankClass {
	case rankGood:
		return lotGood
	case rankUnknown:
		return lotUnknown
	default:
		return lotLow
	}
}

// waiting is the number of requests that wait.
func (g *gate) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.queued()
}

func (g *gate) queued() (n int) {
	for i := range g.lots {
		n += len(g.lots[i].queue)
	}
	return n
}

// sized is the number of a lot's places, free or taken.
func (g *gate) sized(lot int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lots[lot].size
}

// enter waits for a slot, at most wait long. Any error means that the slot was not given.
func (g *gate) enter(ctx context.Context, r rank, wait time.Duration) error {
	c := g.enqueue(r)
	if c == nil {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	var ok bool
	select {
	case ok = <-c.granted:
	case <-timer.C:
		ok = g.withdraw(c)
	case <-ctx.Done():
		ok = g.withdraw(c)
	}
	if !ok {
		return deny(deniedGate, "too many requests wait for a CPU")
	}
	return nil
}

// enqueue returns nil when a slot was free, else the queued candidate, which may be refused
// already.
func (g *gate) enqueue(r rank) *candidate {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := &g.lots[r.lot()]
	l.came = time.Now()
	if len(l.queue) == 0 && g.allows(r.lot()) {
		g.take(r.lot())
		return nil
	}
	g.next++
	c := &candidate{rank: r, arrival: g.next, granted: make(chan bool, 1)}
	heap.Push(&l.queue, c)
	g.grant()
	if g.queued() > g.limit {
		g.refuseWorst()
	}
	return c
}

// refuseWorst refuses the last one of the least urgent lot that has any.
func (g *gate) refuseWorst() {
	for i := range slices.Backward(g.lots[:]) {
		if q := &g.lots[i].queue; len(*q) > 0 {
			worst := q.worst()
			heap.Remove(q, worst.index)
			worst.granted <- false
			return
		}
	}
}

func (g *gate) allows(lot int) bool {
	return g.free > 0 && (lot == lotGood || g.lots[lot].places > 0)
}

func (g *gate) take(lot int) {
	g.free--
	if lot != lotGood {
		g.lots[lot].places--
	}
}

// grant lets in whom it can, the best first; every fairShare-th turn the one who waits longest.
func (g *gate) grant() {
	for {
		c := g.best()
		if c == nil {
			return
		}
		if g.turn++; g.turn%fairShare == 0 {
			c = g.oldest()
		}
		heap.Remove(&g.lots[c.rank.lot()].queue, c.index)
		g.take(c.rank.lot())
		c.granted <- true
	}
}

// best is the first of those who can be let in, nil when nobody can.
func (g *gate) best() *candidate {
	for i := range g.lots {
		if q := g.lots[i].queue; len(q) > 0 && g.allows(i) {
			return q[0]
		}
	}
	return nil
}

// oldest is the one of those who can be let in who waits longest.
func (g *gate) oldest() (c *candidate) {
	for i := range g.lots {
		if q := g.lots[i].queue; len(q) > 0 && g.allows(i) {
			if o := q.oldest(); c == nil || o.arrival < c.arrival {
				c = o
			}
		}
	}
	return c
}

// withdraw takes c out; it reports whether c had been given a slot in the meantime.
func (g *gate) withdraw(c *candidate) bool {
	g.mu.Lock()
	if c.index >= 0 {
		heap.Remove(&g.lots[c.rank.lot()].queue, c.index)
		c.granted <- false
	}
	g.mu.Unlock()
	return <-c.granted
}

// leave passes the slot on.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.free++
	g.grant()
}

// vacate passes the place on, once it has rested.
func (g *gate) vacate(lot int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if rest := g.lots[lot].rest; rest > 0 {
		time.AfterFunc(rest, func() { g.refill(lot) })
		return
	}
	g.lots[lot].places++
	g.grant()
}

func (g *gate) refill(lot int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lots[lot].places++
	g.grant()
}

// last is when a request of a lot came last.
func (g *gate) last(lot int) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lots[lot].came
}

// pace sets for how long a lot's places rest after a request.
func (g *gate) pace(lot int, rest time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lots[lot].rest = rest
}

// lowRest is what pace set for low senders.
func (g *gate) lowRest() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lots[lotLow].rest
}

// resize sets the number of a lot's places; those taken already stay so.
func (g *gate) resize(lot, places int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := &g.lots[lot]
	l.places += places - l.size
	l.size = places
	g.grant()
}

// waitlist is a heap with the best candidate first.
type waitlist []*candidate

func (w waitlist) Len() int           { return len(w) }
func (w waitlist) Less(i, j int) bool { return w[i].before(w[j]) }
func (w waitlist) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].index, w[j].index = i, j
}

// Push implements heap.Interface.
func (w *waitlist) Push(x any) {
	c, _ := x.(*candidate)
	c.index = len(*w)
	*w = append(*w, c)
}

// Pop implements heap.Interface.
func (w *waitlist) Pop() any {
	last := len(*w) - 1
	c := (*w)[last]
	(*w)[last] = nil
	*w = (*w)[:last]
	c.index = -1
	return c
}

// worst scans the leaves, where a heap's last element is.
func (w waitlist) worst() *candidate {
	c := w[len(w)-1]
	for _, x := range w[len(w)/2:] {
		if c.before(x) {
			c = x
		}
	}
	return c
}

func (w waitlist) oldest() *candidate {
	c := w[0]
	for _, x := range w {
		if x.arrival < c.arrival {
			c = x
		}
	}
	return c
}

func (c *candidate) before(x *candidate) bool {
	if c.rank != x.rank {
		return c.rank < x.rank
	}
	return c.arrival < x.arrival
}
