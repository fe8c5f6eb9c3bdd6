package bus

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
	"millrace/subjects"
)

// branch is the way of tapped orders into one class of a feed that is being received.
type branch struct {
	scope  order.Scope
	class  *feedClass
	orders chan order.Delivery // of feedRoom
	bytes  atomic.Int64        // of orders
	// hurry tells the feed's puller that the store has an order that was not handed to the feed.
	hurry chan struct{}
}

// early are the orders of one class of a feed that were handed to it before their copy came on the
// consumer, by sequence.
type early struct {
	mu     sync.Mutex
	orders run[earlyOrder] // at most maxTapped
	passed uint64          // the highest sequence that the consumer brought, or was moved over
}

type earlyOrder struct {
	accept order.AcceptID
	acked  bool // the ledger has it: the copy is to be acknowledged
}

func (e *early) reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.orders, e.passed = run[earlyOrder]{}, 0
}

// expect notes an order that is about to be handed out; false: its copy has come already, or there is
// no room.
func (e *early) expect(sequence uint64, a order.AcceptID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if sequence <= e.passed {
		return false
	}
	if len(e.orders.known) >= maxTapped {
		e.orders.pass(e.passed, func(earlyOrder) bool { return true }) // their copies were taken off the stream by somebody
		if len(e.orders.known) >= maxTapped {
			return false
		}
	}
	e.orders.add(sequence, earlyOrder{accept: a})
	return true
}

// skip notes an order that is stored and not the target's: nothing but the consumer is left to move over it.
func (e *early) skip(sequence uint64, a order.AcceptID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if sequence > e.passed && len(e.orders.known) < maxTapped {
		e.orders.add(sequence, earlyOrder{accept: a, acked: true})
	}
}

func (e *early) cancel(sequence uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.orders.remove(sequence)
}

// acked keeps the acknowledgement of an order whose copy has not come; false: it can be sent.
func (e *early) acked(sequence uint64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	o, ok := e.orders.known[sequence]
	if ok {
		o.acked = true
		e.orders.add(sequence, o)
	}
	return ok
}

// match takes the copy at a sequence; known is false when that order was not handed out early. ack says
// that the copy is to be acknowledged.
func (e *early) match(sequence uint64, a order.AcceptID) (known, ack bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.passed = max(e.passed, sequence)
	o, ok := e.orders.known[sequence]
	e.orders.remove(sequence)
	return ok && o.accept == a, ok && o.accept == a && o.acked
}

var _ passage = (*feedClass)(nil)

func (c *feedClass) passable(at, last uint64) (to uint64, stranger bool) {
	e := &c.early
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.orders.passable(at, last, func(o earlyOrder) standing {
		if o.acked {
			return standingEnded
		}
		return standingHeld
	})
}

// pass also moves what is expected to arrive next; it is called by the goroutine in Receive.
func (c *feedClass) pass(to uint64) {
	e := &c.early
	e.mu.Lock()
	defer e.mu.Unlock()
	e.orders.pass(to, func(o earlyOrder) bool { return o.acked })
	e.passed = max(e.passed, to)
	c.next = max(c.next, to+1)
}

func (c *feedClass) forget() { c.early.reset() }

// open makes c tapped for while it is being received; shut ends that.
func (t *tap) open(p order.Priority, s order.Scope, c *feedClass) (br *branch, shut func()) {
	if t == nil {
		return nil, func() {}
	}
	br = &branch{scope: s, class: c, orders: make(chan order.Delivery, feedRoom), hurry: make(chan struct{}, 1)}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.feeds[p] = append(slices.Clone(t.feeds[p]), br)
	return br, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.feeds[p] = slices.DeleteFunc(slices.Clone(t.feeds[p]), func(o *branch) bool { return o == br })
	}
}

// out hands an order that is stored on OK at this sequence, not before at, to every feed that is open.
func (t *tap) out(o *order.Order, sequence uint64, at time.Time) {
	if t == nil {
		return
	}
	p := o.Priority
	t.recent[p].add(o, sequence, at)
	t.mu.Lock()
	feeds := t.feeds[p]
	t.mu.Unlock()
	if len(feeds) == 0 {
		return
	}
	c := readBack(o)
	c.Trail = nil
	d := order.Delivery{Order: c, Sequence: sequence, StoredAt: at, Size: len(c.Body)}
	for _, br := range feeds {
		if !br.scope.Has(o.Origin) {
			if t.alone { // else the consumer is read, and has no copy of it
				br.class.early.skip(sequence, o.Accept)
			}
			continue
		}
		if br.offer(d) {
			t.m.tapped.WithLabelValues(stageOK, p.String()).Inc()
		} else {
			t.m.untapped.WithLabelValues(stageOK, p.String()).Inc()
			rouse(br.hurry)
		}
	}
}

// offer hands d on if there is room; it does not wait.
func (br *branch) offer(d order.Delivery) bool {
	size := int64(d.Size)
	if queued := br.bytes.Add(size); queued > feedBytes && queued > size || !br.class.early.expect(d.Sequence, d.Order.Accept) {
		br.bytes.Add(-size)
		return false
	}
	select {
	case br.orders <- d:
		return true
	default:
		br.class.early.cancel(d.Sequence)
		br.bytes.Add(-size)
		return false
	}
}

// run hands tapped orders to h until ctx ends. What is left then comes by the consumer: who opens the
// feed next starts over.
func (br *branch) run(ctx context.Context, h func(order.Delivery)) {
	for {
		select {
		case d := <-br.orders:
			br.bytes.Add(-int64(d.Size))
			h(d)
		case <-ctx.Done():
			return
		}
	}
}

// setMode has the consumer leave out the bodies when this process taps them, and only then. Either mode
// is understood, so failing costs time only.
func (f *Feed) setMode(ctx context.Context, l *link, stream string, c jetstream.ConsumerConfig) {
	tapped := f.bus.tap != nil
	if c.HeadersOnly == tapped {
		return
	}
	c.HeadersOnly = tapped
	if _, err := l.js.UpdateConsumer(ctx, stream, c); err != nil {
		f.bus.log.LogAttrs(ctx, slog.LevelWarn, "consumer's mode can't be changed", slog.String("stream", stream),
			slog.String("consumer", f.durable), slog.Any("error", err))
	}
}

// matched takes m when it is the copy of an order that was handed out early.
func (r *receiver) matched(m jetstream.Msg, sequence uint64) bool {
	a, ok := subjects.AcceptOf(m.Headers())
	return ok && r.early(sequence, a)
}

func (r *receiver) early(sequence uint64, a order.AcceptID) bool {
	known, ack := r.feed.classes[r.class].early.match(sequence, a)
	if ack {
		_ = r.feed.Ack(r.class, sequence) // lost: comes again and is acked then
	}
	return known
}
