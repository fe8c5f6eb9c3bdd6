package dispatch

import (
	"cmp"
	"slices"
	"time"

	"millrace/internal/rpcapi"
)

// alarm is a time at which a waiting call is looked at.
type alarm struct {
	at   time.Duration
	stay uint64
	w    *waiter
}

// over says that the call has left the queue.
func (a alarm) over() bool { return a.stay != a.w.stay }

// alarms is a heap of all alarms, earliest first. Alarms of calls that have left stay in it, so that leaving costs
// nothing; they are swept out when they are more than half. Most come in order, and then adding costs nothing
// either.
type alarms struct {
	heap []alarm
	// left counts the alarms that are over.
	left int
}

// sweepMin is how many alarms are not worth sweeping.
const sweepMin = 64

func (s *alarms) push(a alarm) {
	if s.left > len(s.heap)/2 && len(s.heap) >= sweepMin {
		s.sweep()
	}
	i := len(s.heap)
	s.heap = append(s.heap, a)
	for i > 0 {
		parent := (i - 1) / 2
		if s.heap[parent].at <= a.at {
			break
		}
		s.heap[i] = s.heap[parent]
		i = parent
	}
	s.heap[i] = a
}

// sweep takes out what is over; a sorted slice is a heap.
func (s *alarms) sweep() {
	s.heap = slices.DeleteFunc(s.heap, alarm.over)
	slices.SortFunc(s.heap, func(a, b alarm) int { return cmp.Compare(a.at, b.at) })
	s.left = 0
}

// pop takes the earliest alarm out of a heap that is not empty.
func (s *alarms) pop() alarm {
	top := s.heap[0]
	last := len(s.heap) - 1
	a := s.heap[last]
	s.heap[last] = alarm{}
	s.heap = s.heap[:last]
	i := 0
	for {
		child := 2*i + 1
		if child >= last {
			break
		}
		if r := child + 1; r < last && s.heap[r].at < s.heap[child].at {
			child = r
		}
		if a.at <= s.heap[child].at {
			break
		}
		s.heap[i] = s.heap[child]
		i = child
	}
	if last > 0 {
		s.heap[i] = a
	}
	return top
}

// watch sets a call's next alarm: its deadline, or when it has waited another DispatchTimeout.
func (d *Dispatcher) watch(w *waiter, now time.Duration) {
	d.alarms.push(alarm{at: min(w.deadline, now+d.cfg.DispatchTimeout), stay: w.stay, w: w})
	d.arm(now)
}

// arm makes the timer fire at the earliest alarm.
func (d *Dispatcher) arm(now time.Duration) {
	if len(d.alarms.heap) == 0 {
		return
	}
	at := d.alarms.heap[0].at
	if d.armed && d.firesAt <= at {
		return
	}
	d.armed, d.firesAt = true, at
	if d.timer == nil {
		d.timer = time.AfterFunc(at-now, d.ring)
		return
	}
	d.timer.Reset(at - now)
}

// ring runs when the timer fires: it ends the calls whose time is over.
func (d *Dispatcher) ring() {
	var out woken
	d.mu.Lock()
	now := d.now()
	d.armed = false
	for len(d.alarms.heap) > 0 && d.alarms.heap[0].at <= now {
		a := d.alarms.pop()
		if a.over() {
			d.alarms.left--
			continue
		}
		err := d.hopeless(&a.w.want)
		switch {
		case now >= a.w.deadline:
			err = rpcapi.ErrQueueTimeout
		case err == nil:
			d.watch(a.w, now)
			continue
		}
		d.fail(a.w, err, &out)
		d.alarms.left-- // its alarm is not in the heap any more
	}
	d.arm(now)
	d.settle()
	d.mu.Unlock()
	out.tell()
}
