package dispatch

import (
	"slices"

	"millrace/internal/rpcapi"
)

// node is a member, or what is left of one until its places are free.
type node struct {
	tag      rpcapi.Tag
	places   int
	weight   float64
	standing Standing
	// limit is how many of its places it is given as it stands.
	limit int
	busy  int
	// open: it serves calls without demands.
	open bool
	// marks are the last calls, in each queue, of those that it has looked at in vain.
	marks [queues]*waiter
}

func (x *node) free() bool { return x.busy < x.limit }

// judge takes a standing and says whether anything changed.
func (x *node) judge(s Standing) bool {
	if s.State == 0 {
		s.State = Healthy
	}
	before := x.limit
	x.limit = x.places
	if s.State == Returning && x.places > 0 {
		x.limit = min(max(int(s.Share*float64(x.places)), 1), x.places)
	}
	changed := s.State != x.standing.State || s.Height != x.standing.Height || x.limit != before
	x.standing = s
	return changed
}

// able says that the node can answer the call: it is the one, and has the block as far as is known.
func (x *node) able(w *Want) bool {
	if w.Node != 0 && w.Node != x.tag {
		return false
	}
	h := x.standing.Height
	return h == 0 || h >= w.Height
}

// rank is how well the node suits the call; 0: not at all, bestRank: nothing is better.
func (x *node) rank(w *Want) int {
	if x.places == 0 || !x.able(w) {
		return 0
	}
	rank := 1
	if !slices.Contains(w.Avoid, x.tag) {
		rank += 2
	}
	if x.standing.State != Unhealthy {
		rank++
	}
	return rank
}

const bestRank = 4

// may says that the call may be served by x: no node suits it better.
func (d *Dispatcher) may(w *Want, x *node) bool {
	if w.plain() {
		return x.open
	}
	return d.suits(w, x)
}

// suits is may for a call with demands.
func (d *Dispatcher) suits(w *Want, x *node) bool {
	rank := x.rank(w)
	if rank == 0 || rank == bestRank {
		return rank == bestRank
	}
	for _, y := range d.nodes {
		if y.rank(w) > rank {
			return false
		}
	}
	return true
}

// hopeless says why no node can serve the call; nil: one can.
func (d *Dispatcher) hopeless(w *Want) error {
	err := rpcapi.ErrNoNode
	for _, x := range d.nodes {
		if !x.able(w) {
			continue
		}
		if x.places > 0 {
			return nil
		}
		err = rpcapi.ErrNodeTimeout
	}
	return err
}

// first is the first call in queue k that x may serve.
func (d *Dispatcher) first(x *node, k uint8) *waiter {
	q := &d.queues[k]
	if q.len == 0 || (!x.open && q.picky == 0) {
		return nil
	}
	seen := x.marks[k]
	w := q.head
	if seen != nil {
		w = seen.next
	}
	for ; w != nil; w = w.next {
		if (w.plain && x.open) || (!w.plain && d.suits(&w.want, x)) {
			break
		}
		seen = w
	}
	if seen != x.marks[k] {
		x.mark(k, seen)
	}
	return w
}

func (x *node) mark(k uint8, w *waiter) {
	if old := x.marks[k]; old != nil {
		old.marks--
	}
	if w != nil {
		w.marks++
	}
	x.marks[k] = w
}

// forget makes the node look at all calls again.
func (x *node) forget() {
	for k := range uint8(queues) {
		x.mark(k, nil)
	}
}
