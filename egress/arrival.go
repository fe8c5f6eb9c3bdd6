package egress

import (
	"context"
	"time"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

// arrive takes one order in; the item is nil when it is not new.
func (l *loop) arrive(ctx context.Context, p order.Priority, d order.Delivery) (*item, error) {
	now, storedAt := toMicros(l.clock.Now()), toMicros(d.StoredAt)
	if since, old := l.beyondMemory(d, storedAt, now); old {
		if err := l.widen(ctx, since); err != nil {
			return nil, err
		}
	}
	ordered := d.Deliveries > 0 // else it came ahead of what the consumer has not brought yet
	switch {
	case storedAt <= l.startedAt:
		l.settleAt = now + settlePause
	case ordered:
		l.fresh[p] = true
	}
	if l.stage == stageRemoving && storedAt > l.removedAt {
		return nil, nil //nolint:nilnil // not owed to the target any more
	}
	l.quietAt = now + settlePause
	if l.known(p, d, now) {
		return nil, nil //nolint:nilnil // nothing new is no fault
	}
	if ordered {
		l.highest[p] = max(l.highest[p], d.Sequence)
	}
	it := newItem(d, l.mem.origin(d.Order.Origin))
	it.priority = p
	if storedAt <= l.startedAt {
		it.repeat, l.heir = true, true
		l.mem.doubt(it.id, it.key, it.origin)
	}
	if d.Order.Body != nil {
		it.body = d.Order
		l.cached += int64(it.size)
	}
	l.pending[it.accept] = it
	l.waiting[p]++
	l.timers.push(it)
	l.metrics.received.Inc()
	switch {
	case l.stage == stageRemoving:
		l.end(it, ledger.TargetRemoved)
	case it.deadline <= now:
		l.expire(it, now)
	case l.mined(it.target):
		l.miss(it, now)
	case l.foretold(it, now):
	case it.replacement.IsZero():
		l.enqueue(it)
	default:
		l.join(it)
		l.promote(it.group)
	}
	return it, nil
}

// beyondMemory reports whether d may have a record that this owner has not read, or has forgotten, and
// since when that may be. It was stored before what was read; or it is another copy of an order that
// ended long ago: a worker stores one whose acknowledgement a dying server forgot (CORRECTNESS 12).
func (l *loop) beyondMemory(d order.Delivery, storedAt, now micros) (since time.Time, beyond bool) {
	if storedAt < l.tailSince {
		return d.StoredAt, true
	}
	known := max(l.tailSince, now-l.mem.maxAge)
	if now < l.tailAt+l.mem.maxAge {
		known = l.tailSince // nothing that was read is forgotten yet
	}
	if received := toMicros(d.Order.ReceivedAt); toMicros(d.Order.Deadline) < storedAt && received < known {
		return (received - l.mem.maxAge).time(), true // further back, for the next ones
	}
	return time.Time{}, false
}

// known reports whether d is here already or has its record; what is recorded is acknowledged again.
func (l *loop) known(p order.Priority, d order.Delivery, now micros) bool {
	if it, ok := l.pending[d.Order.Accept]; ok {
		if it.sequence == 0 {
			it.sequence = d.Sequence
		}
		if it.sequence != d.Sequence || it.priority != p {
			l.ack(p, d.Sequence) // stored twice; the first one is still unacknowledged
		}
		return true
	}
	_, recorded := l.mem.recorded.find(d.Order.Accept)
	// Everything at or below the highest sequence was received before. When its record is older than
	// what we remember, only an acknowledgement that got lost can bring it back.
	old := d.Sequence <= l.highest[p] && toMicros(d.Order.Deadline)+l.mem.maxAge < now
	if recorded || old {
		l.ack(p, d.Sequence)
		return true
	}
	return false
}

func (l *loop) ack(p order.Priority, sequence uint64) {
	if err := l.feed.Ack(p, sequence); err != nil {
		l.metrics.ackErrors.Inc()
	}
}

// trim lets go of the body of an item that has to wait when the cache is full.
func (l *loop) trim(it *item) {
	if it.body != nil && it.state != stateWire && l.cached > l.cfg.CacheBytes {
		l.drop(it)
	}
}

func (l *loop) drop(it *item) {
	if it.body != nil {
		it.body = nil
		l.cached -= int64(it.size)
	}
}
