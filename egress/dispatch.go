package egress

import (
	"context"
	"fmt"
	"strings"
	"time"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

// sent is what a sender reports back.
type sent struct {
	it  *item
	res Result
	// started is when the request was handed to the Sender; zero: it was not, and why.
	started time.Time
	probe   probing
}

// probing marks the one request that finds out whether a target is back.
type probing uint8

const (
	ordinary probing = iota + 1
	probe
)

// dispatch starts what may start now: the most urgent class first, in each class the oldest, or the
// newest after an outage.
func (l *loop) dispatch(sending context.Context, now micros) {
	if l.stage != stageServing || !l.valid() {
		return
	}
	if l.health.down {
		l.probe(sending, now)
		return
	}
	for _, p := range order.Priorities {
		for l.room(p) {
			it := l.next(p, now)
			if it == nil || !l.fits(it) {
				break
			}
			l.start(sending, it, ordinary)
		}
	}
}

// probe sends the newest order of the highest class that has one, alone.
func (l *loop) probe(sending context.Context, now micros) {
	if l.health.probes > 0 || now < l.health.probeAt || l.recorder.full(l.onWire, l.cfg.Window) {
		return
	}
	for _, p := range order.Priorities {
		if it := l.next(p, now); it != nil {
			l.health.probes++
			l.start(sending, it, probe)
			return
		}
	}
}

// room reports whether a request of class p may be made: each class may use what the classes above
// it don't need, and always a slot of its own.
func (l *loop) room(p order.Priority) bool {
	if l.recorder.full(l.onWire, l.cfg.Window) {
		return false
	}
	if l.wire[p] == 0 {
		return true
	}
	n, used := l.cfg.InFlight, 0
	for q := p; q <= order.PriorityLow; q++ {
		used += l.wire[q]
	}
	switch p {
	case order.PriorityHigh:
		return used < n
	case order.PriorityMedium:
		return used < n*3/4
	default:
		return used < n/2
	}
}

// fits bounds the bytes on the wire of the classes below high, whose orders may be large.
func (l *loop) fits(it *item) bool {
	p := it.priority
	return p == order.PriorityHigh || l.wireBytes[p] == 0 || l.wireBytes[p]+int64(it.size) <= l.cfg.WireBytes
}

// next returns class p's next item that may be sent; it stays in the queue.
func (l *loop) next(p order.Priority, now micros) *item {
	q := &l.ready[p]
	for {
		it := q.first
		if l.newest[p] {
			it = q.last
		}
		switch {
		case it == nil:
			l.newest[p] = l.health.down
			return nil
		case it.deadline <= now:
			l.expire(it, now)
		case l.foretold(it, now):
		default:
			holder := l.holder(it)
			if holder == nil {
				return it
			}
			q.remove(it)
			it.state, it.claim = stateParked, holder
			holder.copies = append(holder.copies, it)
		}
	}
}

// holder is the copy that it has to wait for, if any.
func (l *loop) holder(it *item) *item {
	if it.claims {
		return nil
	}
	return l.claimed(it)
}

// start puts it on the wire.
func (l *loop) start(sending context.Context, it *item, how probing) {
	l.ready[it.priority].remove(it)
	l.timers.remove(it)
	it.state = stateWire
	if g := it.group; g != nil {
		g.waiting.remove(it)
		g.wire = it
	}
	if !it.claims {
		it.claims = true
		l.claims[idKey(it.id, it.origin)] = it
		if k := keyKey(it.key, it.origin); l.claims[k] == nil {
			l.claims[k] = it
		}
	}
	it.repeat = l.mayRepeat(it)
	body := it.body
	l.drop(it)
	it.tries++
	l.onWire++
	l.wire[it.priority]++
	l.wireBytes[it.priority] += int64(it.size)
	l.metrics.onWire[it.priority].Inc()
	s := shipment{
		it: it, body: body, deadline: it.deadline, storedAt: it.storedAt, p: it.priority, target: it.target, sequence: it.sequence, probe: how,
		attempt: Attempt{Number: int(it.attempts) + 1, Repeat: it.repeat || it.ambiguous},
	}
	go l.send(sending, s)
}

// shipment is what a sender needs, copied out of the item that the loop owns.
type shipment struct {
	it       *item
	body     *order.Order
	attempt  Attempt
	deadline micros
	storedAt micros
	target   uint64
	sequence uint64
	p        order.Priority
	probe    probing
}

// bodyWait bounds reading a body again.
const bodyWait = 5 * time.Second

// send makes one request. It runs on its own goroutine and touches nothing of the loop's state; there
// is room for its result.
func (l *loop) send(ctx context.Context, s shipment) {
	r := sent{it: s.it, probe: s.probe}
	s.attempt.Order = s.body
	if s.body == nil {
		reading, cancel := context.WithTimeout(ctx, bodyWait)
		d, err := l.feed.Body(reading, s.p, s.sequence)
		cancel()
		if err == nil && (d.Order == nil || d.Order.Accept != s.it.accept) {
			err = fmt.Errorf("sequence %d holds another order", s.sequence)
		}
		if err != nil {
			r.res.Text = "read body: " + err.Error()
			l.results <- r
			return
		}
		s.attempt.Order = d.Order
	}
	// The last look before the effect (CORRECTNESS 2 and 11).
	if l.valid() && toMicros(l.clock.Now()) < s.deadline && !l.mined(s.target) && ctx.Err() == nil {
		r.started = l.clock.Now()
		local := time.Now()
		r.res = l.sender().Send(ctx, s.attempt)
		l.metrics.observe(&s, &r, local)
	}
	l.results <- r
}

// settle takes a result in.
func (l *loop) settle(ctx context.Context, r sent, now micros) {
	it := r.it
	l.onWire--
	l.wire[it.priority]--
	l.wireBytes[it.priority] -= int64(it.size)
	l.metrics.onWire[it.priority].Dec()
	if r.probe == probe {
		l.health.probes--
	}
	l.judge(ctx, r, now)
	if r.started.IsZero() {
		it.text = cut(r.res.Text)
		l.retry(it, r.res, now)
		return
	}
	l.metrics.attempts[r.res.Verdict].Inc()
	if r.res.Verdict != Unreachable {
		it.attempts++
		it.status = uint16(min(max(r.res.Status, 0), 999))
		it.rpcCode = int32(r.res.RPCCode) //nolint:gosec // a code beyond is noise
		if it.sentAt == 0 {
			it.sentAt = toMicros(r.started)
		}
	}
	it.text = cut(r.res.Text)
	switch r.res.Verdict {
	case Accepted:
		it.ambiguous = false
		l.end(it, ledger.Delivered)
	case Rejected:
		l.end(it, ledger.Refused)
	default:
		l.lost(it, r.res, now)
	}
}

// lost counts what may follow a request that was written and never answered (CORRECTNESS 15).
func (l *loop) lost(it *item, res Result, now micros) {
	written := res.Verdict == Busy || res.Verdict == Lost
	switch {
	case l.stage == stageDraining: // the request was cut off; the next owner sends it again
	case it.ambiguous && written:
		it.left--
	case res.Verdict == Lost:
		it.ambiguous, it.left = true, lostSends
	}
	if it.ambiguous && written && it.left == 0 {
		l.end(it, ledger.Expired)
		return
	}
	l.retry(it, res, now)
}

// retry puts it back: after a pause of its own, or, when the target can't be reached at all, at once,
// as the pause is the target's then.
func (l *loop) retry(it *item, res Result, now micros) {
	if l.stage == stageRemoving {
		l.end(it, ledger.TargetRemoved)
		return
	}
	if it.deadline <= now {
		l.expire(it, now)
		return
	}
	if l.mined(it.target) {
		l.miss(it, now)
		return
	}
	it.state = stateParked
	if res.Verdict != Unreachable {
		d := max(l.cfg.backoff(int(it.tries)), res.RetryAfter)
		it.state, it.retryAt = stateBackoff, now+micros(d.Microseconds())
	}
	l.unwire(it)
	l.timers.push(it)
	switch {
	case l.stage == stageDraining:
	case it.group != nil:
		if l.foretold(it, now) {
			return
		}
		l.promote(it.group)
	case it.state == stateParked:
		l.enqueue(it)
	}
}

// unwire takes a request's item back into its group.
func (l *loop) unwire(it *item) {
	if g := it.group; g != nil && g.wire == it {
		g.wire = nil
		g.waiting.push(it)
	}
}

// textSize is what an entry has room for.
const textSize = 85

// cut shortens a reason to what the record holds, in memory of its own, so that an answer is not
// kept alive by it.
func cut(s string) string {
	if len(s) <= textSize {
		return s
	}
	return strings.ToValidUTF8(strings.Clone(s[:textSize]), "")
}
