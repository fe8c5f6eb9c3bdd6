package bus

import (
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
)

const (
	// favour is k of the weighted-strict order: how many more urgent orders go ahead of a waiting
	// one before it gets a turn.
	favour = 16
	// maxHeld and maxHeldBytes bound what this process holds of one class: waiting, in a slot or
	// finishing. At either bound nothing more of the class is begun and, once its waiting room is
	// full too, nothing more is pulled; the other classes go on. Bytes may exceed the bound by one
	// order per slot.
	maxHeld      = 1024
	maxHeldBytes = 64 << 20
)

// job is one order between its arrival and its verdict.
type job struct {
	msg      jetstream.Msg // nil: it was tapped
	delivery order.Delivery
	since    time.Time // handed to this process, or last reported in progress
	tapped   *tapped   // nil: the consumer brought it
}

// message is what the consumer brought for j; nil: nothing yet.
func (j *job) message() jetstream.Msg {
	if j.tapped != nil {
		return j.tapped.message()
	}
	return j.msg
}

// class is the state of one priority in a queue.
type class struct {
	waiting []*job // at most queue.room of the consumer's, tapRoom with tapped ones
	queued  int    // bytes of waiting
	putting int    // callers of put that wait for room
	passed  int    // more urgent jobs taken while this class waited
	running int    // taken, no verdict yet
	bytes   int    // of running
}

func (c *class) ready() bool {
	return len(c.waiting) > 0 && c.running < maxHeld && c.bytes < maxHeldBytes
}

// queue is where the pullers of all classes, and the tap, meet the slots. It holds at most room jobs of
// each class that nobody has begun; when full, put blocks, which stops that class's puller. Of tapped
// jobs it holds more, as they have come without being asked for; but none overtakes one that put waits
// with.
type queue struct {
	room int

	mu      sync.Mutex
	changed sync.Cond // a job came, a bound gave way, or the queue closed
	classes [len(order.Priorities) + 1]class
	jobs    map[*job]struct{} // everything held, for in-progress reports
	closed  bool
}

func newQueue(room int) *queue {
	q := &queue{room: room, jobs: make(map[*job]struct{})}
	q.changed.L = &q.mu
	return q
}

// put adds j, waiting for room; false means that the queue is closed and j was not taken.
func (q *queue) put(j *job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := &q.classes[j.delivery.Order.Priority]
	c.putting++
	for len(c.waiting) >= q.room && !q.closed {
		q.changed.Wait()
	}
	c.putting--
	if q.closed {
		return false
	}
	q.add(c, j)
	return true
}

func (q *queue) add(c *class, j *job) {
	c.waiting = append(c.waiting, j)
	c.queued += j.delivery.Size
	q.jobs[j] = struct{}{}
	q.changed.Broadcast()
}

// roomFor reports whether offer would take a job of class p and this size now.
func (q *queue) roomFor(p order.Priority, size int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.admits(&q.classes[p], size)
}

func (q *queue) admits(c *class, size int) bool {
	return !q.closed && c.putting == 0 && len(c.waiting) < tapRoom && c.queued+size <= tapBytes
}

// offer adds a tapped job if there is room; it does not wait.
func (q *queue) offer(j *job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := &q.classes[j.delivery.Order.Priority]
	if !q.admits(c, j.delivery.Size) {
		return false
	}
	q.add(c, j)
	return true
}

// withdraw takes a job back that nobody has begun; one that was begun stays.
func (q *queue) withdraw(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := &q.classes[j.delivery.Order.Priority]
	i := slices.Index(c.waiting, j)
	if i < 0 {
		return
	}
	c.waiting = slices.Delete(c.waiting, i, i+1)
	c.queued -= j.delivery.Size
	delete(q.jobs, j)
	q.changed.Broadcast() // room for put
}

// take waits for the next job; nil means that the queue is closed.
func (q *queue) take() *job {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if q.closed {
			return nil
		}
		if p := q.choose(); p != 0 {
			return q.begin(p)
		}
		q.changed.Wait()
	}
}

// takeAbove returns a waiting job that is more urgent than p, or nil; it does not wait.
func (q *queue) takeAbove(p order.Priority) *job {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil
	}
	for _, higher := range order.Priorities {
		if higher >= p {
			return nil
		}
		if q.classes[higher].ready() {
			return q.begin(higher)
		}
	}
	return nil
}

// choose picks the class of the next job: the most urgent one, but a class that was passed over
// favour times comes first. Zero: nothing can be taken.
func (q *queue) choose() order.Priority {
	var best order.Priority
	for _, p := range order.Priorities {
		c := &q.classes[p]
		if !c.ready() {
			continue
		}
		if best == 0 {
			best = p
		} else if c.passed >= favour {
			best = p
			break
		}
	}
	if best == 0 {
		return 0
	}
	for _, p := range order.Priorities {
		if c := &q.classes[p]; p > best && c.ready() {
			c.passed++
		}
	}
	q.classes[best].passed = 0
	return best
}

func (q *queue) begin(p order.Priority) *job {
	c := &q.classes[p]
	j := c.waiting[0]
	c.waiting[0] = nil
	c.waiting = c.waiting[1:]
	c.queued -= j.delivery.Size
	c.running++
	c.bytes += j.delivery.Size
	q.changed.Broadcast() // room for put
	return j
}

// done ends a job that take or takeAbove returned.
func (q *queue) done(j *job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := &q.classes[j.delivery.Order.Priority]
	c.running--
	c.bytes -= j.delivery.Size
	delete(q.jobs, j)
	q.changed.Broadcast()
}

// close wakes everyone; it returns the jobs that nobody has begun.
func (q *queue) close() []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	var rest []*job
	for i := range q.classes {
		rest = append(rest, q.classes[i].waiting...)
		q.classes[i].waiting, q.classes[i].queued = nil, 0
	}
	for _, j := range rest {
		delete(q.jobs, j)
	}
	q.changed.Broadcast()
	return rest
}

// stale returns the jobs held for longer than age and counts them as reported.
func (q *queue) stale(now time.Time, age time.Duration) []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []*job
	for j := range q.jobs {
		if now.Sub(j.since) >= age {
			j.since = now
			out = append(out, j)
		}
	}
	return out
}

// load returns the number and bytes of class p's jobs.
func (q *queue) load(p order.Priority) (jobs, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := &q.classes[p]
	return c.running + len(c.waiting), c.bytes + c.queued
}
