package dispatch

import (
	"time"

	"millrace/internal/rpcapi"
)

// The methods here are called with the lock held.

// queueOf is a queue's index; it is never 0.
func queueOf(c rpcapi.Class, p Position) uint8 {
	if p == Front {
		return 2 * uint8(c)
	}
	return 2*uint8(c) + 1
}

func (d *Dispatcher) length(c rpcapi.Class) int {
	return d.queues[queueOf(c, Front)].len + d.queues[queueOf(c, Back)].len
}

func (d *Dispatcher) enqueue(w *waiter, now time.Duration) {
	w.at, w.plain = queueOf(w.want.class(), w.want.Position), w.want.plain()
	d.queues[w.at].append(w)
	d.waiting++
	d.watch(w, now)
}

// dequeue takes the call out of its queue; nodes that have looked up to it have now looked up to the one before.
func (d *Dispatcher) dequeue(w *waiter) {
	k := w.at
	if w.marks > 0 {
		for _, x := range d.nodes {
			if x.marks[k] == w {
				x.mark(k, w.prev)
			}
		}
	}
	d.queues[k].remove(w)
	w.at = 0
	w.stay++
	d.waiting--
	d.alarms.left++
}

// serve gives a place of x to the first call, in serving order, that x may serve.
func (d *Dispatcher) serve(x *node) *waiter {
	if d.waiting == 0 {
		return nil
	}
	var heads perClass[*waiter]
	var has perClass[bool]
	for c := rpcapi.FastTrack; c <= rpcapi.Low; c++ {
		w := d.first(x, queueOf(c, Front))
		if w == nil {
			w = d.first(x, queueOf(c, Back))
		}
		heads[c], has[c] = w, w != nil
	}
	c := d.turn.next(has)
	if c == 0 {
		return nil
	}
	w := heads[c]
	d.dequeue(w)
	start := w.place.QueueStart
	w.place = d.take(x, c)
	w.place.QueueStart = start
	return w
}

// take takes a place of x.
func (d *Dispatcher) take(x *node, c rpcapi.Class) Place {
	x.busy++
	d.taken++
	n := d.length(c)
	return Place{Tag: x.tag, Height: x.standing.Height, QueueStart: n, QueueEnd: n, node: x}
}

// fail ends the wait of a call.
func (d *Dispatcher) fail(w *waiter, err error, out *woken) {
	d.dequeue(w)
	w.err = err
	out.add(w)
}

// settle tells who waits for it that there is nothing left to do.
func (d *Dispatcher) settle() {
	if d.idle != nil && d.waiting == 0 && d.taken == 0 {
		close(d.idle)
		d.idle = nil
	}
}
