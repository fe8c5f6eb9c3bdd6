package upkeep

import (
	"slices"
	"time"
)

// historyMax bounds the entries of a history; when it is full, every second entry is dropped, which
// halves the resolution of the past and nothing else.
const historyMax = 4096

// history remembers when a stream's last sequence was what, so that a sequence can be dated without
// reading its message. It belongs to one goroutine.
type history struct{ marks []mark }

// mark says that the last sequence was seq at from, at until, and at all looks in between.
type mark struct {
	seq         uint64
	from, until time.Time
}

// add notes that the last sequence is seq at the time at. Times and sequences must not fall; one
// that does (a clock was set, a stream made anew) voids what is known.
func (h *history) add(seq uint64, at time.Time) {
	if n := len(h.marks); n > 0 {
		last := &h.marks[n-1]
		switch {
		case seq < last.seq || at.Before(last.until):
			h.marks = h.marks[:0]
		case seq == last.seq:
			last.until = at
			return
		}
	}
	if len(h.marks) >= historyMax {
		h.thin()
	}
	h.marks = append(h.marks, mark{seq: seq, from: at, until: at})
}

// thin keeps the oldest, the newest and every second entry between.
func (h *history) thin() {
	kept := h.marks[:1]
	for i := 2; i < len(h.marks); i += 2 {
		kept = append(kept, h.marks[i])
	}
	h.marks = kept
}

// dated returns when seq was stored, as good as the looks allow: between the last look without it
// and the first look with it, in proportion. ok is false for a sequence that is older than the
// history or newer than the last look.
func (h *history) dated(seq uint64) (at time.Time, ok bool) {
	i, _ := slices.BinarySearchFunc(h.marks, seq, func(m mark, seq uint64) int {
		if m.seq < seq {
			return -1
		}
		return 1
	})
	if i == 0 || i == len(h.marks) {
		return time.Time{}, false
	}
	before, after := h.marks[i-1], h.marks[i]
	share := float64(seq-before.seq) / float64(after.seq-before.seq)
	return before.until.Add(time.Duration(share * float64(after.from.Sub(before.until)))), true
}

// storedBefore returns the highest sequence that is known to have been stored before at; zero when
// none is.
func (h *history) storedBefore(at time.Time) uint64 {
	for _, m := range slices.Backward(h.marks) {
		if m.from.Before(at) {
			return m.seq
		}
	}
	return 0
}

// forget drops what is not needed to answer for at and later.
func (h *history) forget(at time.Time) {
	first := 0
	for i, m := range h.marks {
		if m.from.Before(at) {
			first = i
		}
	}
	h.marks = append(h.marks[:0], h.marks[first:]...)
}

// forgetBelow drops what is not needed to date seq and above.
func (h *history) forgetBelow(seq uint64) {
	first := 0
	for i, m := range h.marks {
		if m.seq < seq {
			first = i
		}
	}
	if first > 0 {
		h.marks = append(h.marks[:0], h.marks[first:]...)
	}
}
