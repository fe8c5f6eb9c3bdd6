package bus

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
)

// hand is what this process has in hand of IN by the tap: each order from its tap until the copy that
// the consumer brings is answered. It holds no bodies.
type hand struct {
	// forget is after how long an order that ended is forgotten although no copy of it came: its
	// deadline and the duplicate window are past by then.
	forget time.Duration

	mu     sync.Mutex
	orders map[order.AcceptID]*tapped // at most maxTapped
	ended  int                        // of orders, those that wait for nothing but their copy
	stored [len(order.Priorities) + 1]run[*tapped]
}

func newHand(forget time.Duration) *hand {
	return &hand{forget: forget, orders: make(map[order.AcceptID]*tapped)}
}

// tapped is the state of one order in hand; hand.mu guards what changes.
type tapped struct {
	hand     *hand
	accept   order.AcceptID
	priority order.Priority
	since    time.Time
	// known is closed once it is known whether the order is stored.
	known chan struct{}

	state    tapState
	sequence uint64 // zero: not stored, as far as is known
	storedAt time.Time
	copy     jetstream.Msg // the latest that the consumer brought; nil: none came
	delay    time.Duration // of stateFailed
}

type tapState uint8

const (
	stateHeld    tapState = iota + 1 // waits for its sequence, for a slot or for its end
	stateDone                        // ended; the copy is to be acknowledged
	stateFailed                      // failed; the copy is to be handed out again
	stateDropped                     // not in hand any more
)

// take puts an order in hand; nil: it is already, or there is no room.
func (h *hand) take(a order.AcceptID, p order.Priority) *tapped {
	t := &tapped{hand: h, accept: a, priority: p, since: time.Now(), known: make(chan struct{}), state: stateHeld}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, there := h.orders[a]; there || len(h.orders) >= maxTapped {
		return nil
	}
	h.orders[a] = t
	return t
}

// stored says that the order is stored at this sequence, not before at.
func (t *tapped) stored(sequence uint64, at time.Time) {
	t.hand.mu.Lock()
	defer t.hand.mu.Unlock()
	t.store(sequence, at)
}

func (t *tapped) store(sequence uint64, at time.Time) {
	if t.state == stateHeld && t.sequence == 0 {
		t.sequence, t.storedAt = sequence, at
		t.hand.stored[t.priority].add(sequence, t)
		close(t.known)
	}
}

// remove takes an order out of hand; h.mu is held.
func (h *hand) remove(t *tapped) {
	delete(h.orders, t.accept)
	if t.sequence != 0 {
		h.stored[t.priority].remove(t.sequence)
	}
}

// drop lets the order go, unless it is known to be stored. If it turns out to be, the consumer brings it
// to somebody who knows nothing of it, which is right as nothing was done.
func (t *tapped) drop() bool {
	t.hand.mu.Lock()
	defer t.hand.mu.Unlock()
	if t.state != stateHeld || t.sequence != 0 {
		return false
	}
	t.state = stateDropped
	delete(t.hand.orders, t.accept)
	close(t.known)
	return true
}

// await waits until the order is stored; false: it is dropped.
func (t *tapped) await(ctx context.Context, d *order.Delivery) bool {
	select {
	case <-t.known:
	case <-ctx.Done():
		if t.drop() {
			return false
		}
	}
	t.hand.mu.Lock()
	defer t.hand.mu.Unlock()
	d.Sequence, d.StoredAt = t.sequence, t.storedAt
	if trail := d.Order.Trail; trail != nil && trail.InSequence == 0 {
		trail.InSequence, trail.InStoredAt = t.sequence, t.storedAt
	}
	return t.sequence != 0
}

// end ends the order. The message to answer is nil while its copy is still to come; then it is answered
// when it does.
func (t *tapped) end(as tapState, delay time.Duration) jetstream.Msg {
	h := t.hand
	h.mu.Lock()
	defer h.mu.Unlock()
	t.state, t.delay = as, delay
	if t.copy != nil {
		h.remove(t)
		return t.copy
	}
	h.ended++
	return nil
}

// release takes an order out of hand that nobody has begun, and returns its copy, if it came.
func (t *tapped) release() jetstream.Msg {
	h := t.hand
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.state == stateHeld {
		t.state = stateDropped
		h.remove(t)
	}
	return t.copy
}

// message is the copy, nil while none came.
func (t *tapped) message() jetstream.Msg {
	t.hand.mu.Lock()
	defer t.hand.mu.Unlock()
	return t.copy
}

// match takes the copy of an order in hand; known is false when it is not in hand. answer, if not nil,
// answers the copy, as the order has ended.
func (h *hand) match(a order.AcceptID, m jetstream.Msg, sequence uint64, at time.Time) (answer func() error, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t, ok := h.orders[a]
	if !ok {
		return nil, false
	}
	switch t.state {
	case stateDone:
		answer = m.Ack
	case stateFailed:
		delay := t.delay
		answer = func() error { return m.NakWithDelay(delay) } // it comes as delivered before: as it was
	default:
		t.copy = m
		t.store(sequence, at)
		return nil, true
	}
	h.remove(t)
	h.ended--
	return answer, true
}

// waiting is how many orders wait for nothing but their copy.
func (h *hand) waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended
}

// tidy forgets what ended so long ago that its copy is not expected any more.
func (h *hand) tidy(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended == 0 {
		return
	}
	for _, t := range h.orders {
		if t.state != stateHeld && now.Sub(t.since) > h.forget {
			h.remove(t)
			h.ended--
		}
	}
}

// handPassage is what is in hand of one class.
type handPassage struct {
	hand     *hand
	priority order.Priority
}

var _ passage = handPassage{}

func (p handPassage) passable(at, last uint64) (to uint64, stranger bool) {
	h := p.hand
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stored[p.priority].passable(at, last, func(t *tapped) standing {
		switch {
		case t.state == stateFailed:
			return standingAgain
		case t.state == stateDone && t.copy == nil:
			return standingEnded
		default:
			return standingHeld
		}
	})
}

func (p handPassage) pass(to uint64) {
	h := p.hand
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stored[p.priority].pass(to, func(t *tapped) bool {
		if t.state != stateDone || t.copy != nil {
			return false
		}
		delete(h.orders, t.accept)
		h.ended--
		return true
	})
}

func (p handPassage) forget() {
	h := p.hand
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stored[p.priority] = run[*tapped]{}
}
