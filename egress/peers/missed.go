package peers

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"millrace/internal/order"
)

// Drop is why an order of a peer was dropped: a closed set, so it may be a metric label.
type Drop uint8

// The drops.
const (
	// DropOversized: the body is larger than a door would take.
	DropOversized Drop = iota + 1
	// DropMalformed: the body is no order.
	DropMalformed
	// DropForbidden: not for this peer to send.
	DropForbidden
	// DropTooOld: its life was over when it came, or before it could be stored.
	DropTooOld
	// DropExpired: its maxTimestamp had passed.
	DropExpired
	// DropInvalid: a transaction breaks the consensus rules (peers.revalidate).
	DropInvalid
	// DropOverBudget: the peer had too many bytes stored in a short time (peers.max_bytes).
	DropOverBudget
)

var dropNames = [...]string{"", "oversized", "malformed", "forbidden", "too_old", "expired", "invalid", "over_budget"}

// String is the drop as a metric label.
func (d Drop) String() string {
	if int(d) >= len(dropNames) {
		return "unknown"
	}
	return dropNames[d]
}

const (
	// rangePause ends a range: what is dropped later than this after the last one is another.
	rangePause = 10 * time.Second
	// keptRanges are kept of a peer; then the oldest goes.
	keptRanges = 64
)

// Range is a run of orders of a peer that were dropped for one reason, with none of the same class taken in between.
type Range struct {
	Peer  string
	Drop  Drop
	Class order.Priority // as the peer claims; zero: it does not
	// First and Last are the messages' keys, Since and Until when they came.
	First, Last  string
	Since, Until time.Time
	Count        uint64
}

// ranges are one peer's.
type ranges struct {
	peer string

	mu   sync.Mutex
	kept []Range
	open [order.PriorityLow + 1][len(dropNames)]int // index into kept, plus one; zero: none
}

func (r *ranges) add(class order.Priority, d Drop, key string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := r.open[class][d]; i != 0 && at.Sub(r.kept[i-1].Until) <= rangePause {
		g := &r.kept[i-1]
		g.Last, g.Until = key, at
		g.Count++
		return
	}
	if len(r.kept) == keptRanges {
		r.kept = slices.Delete(r.kept, 0, 1)
		for c := range r.open {
			for d := range r.open[c] {
				r.open[c][d] = max(r.open[c][d]-1, 0)
			}
		}
	}
	r.kept = append(r.kept, Range{Peer: r.peer, Drop: d, Class: class, First: key, Last: key, Since: at, Until: at, Count: 1})
	r.open[class][d] = len(r.kept)
}

// end ends the ranges of a class: one of its orders was taken.
func (r *ranges) end(class order.Priority) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[class] = [len(dropNames)]int{}
}

func (r *ranges) list() []Range {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.kept)
}

func sortRanges(all []Range) {
	slices.SortStableFunc(all, func(a, b Range) int {
		return cmp.Or(cmp.Compare(a.Peer, b.Peer), a.Since.Compare(b.Since))
	})
}

// claimed is the class that the peer claims.
func claimed(in *order.Incoming) order.Priority {
	if in.Order != nil && in.Order.Priority.Valid() {
		return in.Order.Priority
	}
	return 0
}

func (p *peer) missed(in *order.Incoming, d Drop, now time.Time) {
	p.ranges.add(claimed(in), d, in.Key, now)
}

func (p *peer) passed(in *order.Incoming) { p.ranges.end(claimed(in)) }
