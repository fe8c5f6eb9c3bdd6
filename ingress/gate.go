package ingress

import (
	"container/heap"
	"context"
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
// place, which it keeps until it is answered: however many such requests come, what they make
// anybody else wait for anywhere in this process is bounded by the number of places.
type gate struct {
	limit int

	mu     sync.Mutex
	free   int // slots
	places int // free ones; below zero while more are taken than there should be
	size   int // of places
	queue  waitlist
	turn   uint64 // grants so far
	next   uint64 // arrival number
}

// candidate waits at the gate; granted gets true for a slot, false for a refusal.
type candidate struct {
	rank    rank
	arrival uint64
	index   int // in the heap; -1: decided
	granted chan bool
}

func newGate(slots, limit, places int) *gate {
	return &gate{free: slots, limit: limit, places: places, size: places, queue: make(waitlist, 0, limit)}
}

// bulk reports whether a request of this rank needs a place.
func (r rank) bulk() bool { return r>>rankClass != rankGood }

// waiting is the number of requests that wait.
func (g *gate) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.queue)
}

// sized is the number of places, free or taken.
func (g *gate) sized() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.size
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
	if len(g.queue) == 0 && g.allows(r) {
		g.take(r)
		return nil
	}
	g.next++
	c := &candidate{rank: r, arrival: g.next, granted: make(chan bool, 1)}
	heap.Push(&g.queue, c)
	g.grant()
	if len(g.queue) > g.limit {
		worst := g.queue.worst()
		heap.Remove(&g.queue, worst.index)
		worst.granted <- false
	}
	return c
}

func (g *gate) allows(r rank) bool { return g.free > 0 && (g.places > 0 || !r.bulk()) }

func (g *gate) take(r rank) {
	g.free--
	if r.bulk() {
		g.places--
	}
}

// grant lets in whom it can. The best candidate is the last one to need a place, so when it can't
// go nobody can.
func (g *gate) grant() {
	for len(g.queue) > 0 && g.allows(g.queue[0].rank) {
		index := 0
		if g.turn++; g.turn%fairShare == 0 {
			if oldest := g.queue.oldest(); g.allows(oldest.rank) {
				index = oldest.index
			}
		}
		c, _ := heap.Remove(&g.queue, index).(*candidate)
		g.take(c.rank)
		c.granted <- true
	}
}

// withdraw takes c out; it reports whether c had been given a slot in the meantime.
func (g *gate) withdraw(c *candidate) bool {
	g.mu.Lock()
	if c.index >= 0 {
		heap.Remove(&g.queue, c.index)
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

// vacate passes the place on.
func (g *gate) vacate() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.places++
	g.grant()
}

// resize sets the number of places; those taken already stay so.
func (g *gate) resize(places int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.places += places - g.size
	g.size = places
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
