package limit

import "time"

// slots is into how many parts a window is cut: what was admitted is forgotten a part at a time, never before the
// window is over and at most a part later.
const slots = 20

// window counts what was admitted of one limit in its window. It is guarded by its account's shard.
type window struct {
	rule rule
	hash uint64 // its name among processes; zero: not needed yet

	admitted [slots + 1]uint32 // a ring by slot number; the one that is under way beside the full ones
	sum      uint32
	at       int64 // number of the slot under way

	share
}

// roll forgets what is older than the window.
func (w *window) roll(now time.Duration) {
	at := int64(now / w.rule.slot)
	if at <= w.at {
		return
	}
	if at-w.at > slots {
		clear(w.admitted[:])
		w.sum, w.at = 0, at
		return
	}
	for w.at < at {
		w.at++
		i := w.at % (slots + 1)
		w.sum -= w.admitted[i]
		w.admitted[i] = 0
	}
}

// fits reports whether n more are within bound.
func (w *window) fits(n, bound uint32) bool { return uint64(w.sum)+uint64(n) <= uint64(bound) }

// add counts n.
func (w *window) add(n uint32) {
	w.sum += n
	w.admitted[w.at%(slots+1)] += n
}

// remove takes back n that were added a moment ago.
func (w *window) remove(n uint32) {
	for at := w.at; n > 0 && at >= max(w.at-slots, 0); at-- {
		i := at % (slots + 1)
		m := min(n, w.admitted[i])
		w.admitted[i] -= m
		w.sum -= m
		n -= m
	}
}

// retry is how long it takes until n more are within bound: until enough of what was admitted is forgotten. When
// that alone does not help, because others have the rest, it is until their claims may have changed.
func (w *window) retry(now time.Duration, n, bound uint32) time.Duration {
	if n > w.rule.limit {
		return slots * w.rule.slot
	}
	if n > bound {
		return 3 * Tick
	}
	left := w.sum // more than bound, perhaps: it may have been lowered
	for at := max(w.at-slots, 0); at <= w.at; at++ {
		if left -= w.admitted[at%(slots+1)]; uint64(left)+uint64(n) <= uint64(bound) {
			return time.Duration(at+slots+1)*w.rule.slot - now
		}
	}
	return slots * w.rule.slot
}
