package dispatch

import "time"

// waiter is a call in a queue. What the queue looks at stands together: a long queue is not in the processor's cache.
type waiter struct {
	next, prev *waiter
	// stay counts its stays in queues, so that an alarm of an earlier one is not taken for one of this.
	stay uint64
	// marks counts the nodes whose mark in the queue it is.
	marks int32
	// at is the queue that it is in; 0: none.
	at    uint8
	plain bool // as want says
	ready chan struct{}

	// place or err are the outcome, told by ready.
	place Place
	err   error

	want     Want
	since    time.Duration // when it came to the queue
	deadline time.Duration
}

// queue is a list of calls in the order in which they came. Its bound is Config.Max of the class.
type queue struct {
	head, tail *waiter
	len        int
	// picky counts the calls with demands.
	picky int
}

func (q *queue) append(w *waiter) {
	w.prev = q.tail
	if q.tail == nil {
		q.head = w
	} else {
		q.tail.next = w
	}
	q.tail = w
	q.count(w, 1)
}

func (q *queue) remove(w *waiter) {
	if w.prev == nil {
		q.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.next, w.prev = nil, nil
	q.count(w, -1)
}

func (q *queue) count(w *waiter, n int) {
	q.len += n
	if !w.plain {
		q.picky += n
	}
}

// woken are calls whose outcome is known; their callers are told once the lock is free.
type woken struct{ first, last *waiter }

func (k *woken) add(w *waiter) {
	if k.first == nil {
		k.first = w
	} else {
		k.last.next = w
	}
	k.last = w
}

// tell wakes the callers. A waiter is its caller's from then on.
func (k *woken) tell() {
	for w := k.first; w != nil; {
		next := w.next
		w.next = nil
		w.ready <- struct{}{}
		w = next
	}
}
