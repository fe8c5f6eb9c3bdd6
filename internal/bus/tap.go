package bus

import (
	"sync"
	"sync/atomic"
	"time"

	"millrace/internal/order"
	"millrace/subjects"
)

const (
	// maxTapped bounds the orders of IN, and of each class of a feed, between their tap and the
	// acknowledgement of their copy: about 200 bytes each. At the bound nothing more is tapped.
	maxTapped = 1 << 16
	// tapRoom and tapBytes bound the orders of a class that wait for a slot when more are tapped.
	tapRoom  = 1024
	tapBytes = 16 << 20
	// feedRoom and feedBytes bound the tapped orders of a class on their way to a target's loop.
	feedRoom  = 64
	feedBytes = 8 << 20
	// lingerAlone is how often a consumer is moved over the tapped orders that ended, when nobody but this
	// process can publish (see passer). lingerShared is how long their copies may gather at the server, to
	// be read at once, when others can, whose orders come by no tap.
	lingerAlone  = 250 * time.Millisecond
	lingerShared = 50 * time.Millisecond
	// tapPause is how long a class is not tapped after its store refused an order: validating what is
	// not stored is work for nothing.
	tapPause = time.Second
)

// tap joins the publishes of this process to its consumers. The nil tap does nothing.
type tap struct {
	m    *metrics
	hand *hand
	// alone: nobody but this process publishes or consumes here, so that consumers can be moved unread.
	alone bool
	pool  atomic.Pointer[pool] // of the ConsumeIn that runs; nil: none
	// hurry tells a class's puller that the store has an order of it that nobody was handed.
	hurry  [len(order.Priorities) + 1]chan struct{}
	paused [len(order.Priorities) + 1]atomic.Int64 // until, ns since 1970

	mu    sync.Mutex
	feeds [len(order.Priorities) + 1][]*branch
	// recent is what was stored on OK last, by class, for who follows it.
	recent [len(order.Priorities) + 1]recent
}

func newTap(window time.Duration, m *metrics) *tap {
	t := &tap{m: m, hand: newHand(window + subjects.AckWaitMargin)}
	for _, p := range order.Priorities {
		t.hurry[p] = make(chan struct{}, 1)
	}
	return t
}

// linger is how long what was tapped may stay at the server.
func (b *Bus) linger() time.Duration {
	if b.tap != nil && b.tap.alone {
		return lingerAlone
	}
	return lingerShared
}

// hurried is the channel that ends the patience of class p's puller; nil without a tap.
func (t *tap) hurried(p order.Priority) <-chan struct{} {
	if t == nil {
		return nil
	}
	return t.hurry[p]
}

// rouse wakes whoever waits at a hurry channel.
func rouse(hurry chan struct{}) {
	select {
	case hurry <- struct{}{}:
	default:
	}
}

// attach makes p the pool that is tapped for; detach ends that. Of two at a time only the first is.
func (t *tap) attach(p *pool) (detach func()) {
	if t == nil || !t.pool.CompareAndSwap(nil, p) {
		return func() {}
	}
	p.hand, p.again = t.hand, func(class order.Priority) { rouse(t.hurry[class]) }
	return func() { t.pool.CompareAndSwap(p, nil) }
}

// tapping is one order between its tap and the answer of the store; nil: it was not tapped.
type tapping struct {
	tap  *tap
	pool *pool
	job  *job
}

// in hands o to the workers of this process. o and its body are copied: the caller reuses them.
func (t *tap) in(o *order.Order) *tapping {
	if t == nil {
		return nil
	}
	pool := t.pool.Load()
	size := len(o.Body)
	if pool == nil || time.Now().UnixNano() < t.paused[o.Priority].Load() || !pool.queue.roomFor(o.Priority, size) {
		return nil
	}
	c := readBack(o)
	c.Body = append(make([]byte, 0, size), o.Body...)
	c.Reading = o.Reading.Over(o.Body, c.Body)
	entry := t.hand.take(o.Accept, o.Priority)
	if entry == nil {
		return nil
	}
	now := time.Now()
	j := &job{
		delivery: order.Delivery{Order: c, Deliveries: 1, Size: size, TappedAt: now}, since: now, tapped: entry,
	}
	if !pool.queue.offer(j) {
		entry.drop()
		return nil
	}
	return &tapping{tap: t, pool: pool, job: j}
}

// settled tells what the store answered about an order of class p that in was asked to tap; at is not
// after it was stored.
func (t *tap) settled(g *tapping, p order.Priority, r order.Receipt, at time.Time, err error) {
	if t == nil {
		return
	}
	stored := err == nil && !r.Duplicate
	if err != nil {
		t.paused[p].Store(time.Now().Add(tapPause).UnixNano())
	}
	switch {
	case g == nil && stored:
		t.m.untapped.WithLabelValues(stageIn, p.String()).Inc()
		rouse(t.hurry[p])
	case g == nil:
	case stored:
		t.m.tapped.WithLabelValues(stageIn, p.String()).Inc()
		g.job.tapped.stored(r.Sequence, at)
	case g.job.tapped.drop():
		t.m.dropped.WithLabelValues(p.String()).Inc()
		g.pool.queue.withdraw(g.job)
		rouse(t.hurry[p])
	}
}

// readBack is a copy of o as it would be read back from the store, its body shared.
func readBack(o *order.Order) *order.Order {
	c := *o
	c.Reading = nil
	c.ReceivedAt = o.Accept.Received()
	c.Deadline = time.UnixMicro(o.Deadline.UnixMicro())
	return &c
}
