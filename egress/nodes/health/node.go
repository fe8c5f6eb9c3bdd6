package health

import (
	"sync/atomic"
	"time"

	"millrace/internal/rpcapi"
)

// node is what is known of one. Down to rpc nobody needs a lock, the rest is under Monitor.mu.
type node struct {
	counters
	// streak is refused connections since the last answer.
	streak atomic.Uint64
	// returning: a failed call is a relapse, which is kept until somebody looks.
	returning atomic.Bool
	relapse   atomic.Int64

	tag rpcapi.Tag
	rpc atomic.Pointer[rpcapi.Node] // may be configured anew

	label string // unique in the set

	checked   bool
	good, bad int    // checks in a row
	fault     Reason // of checks; empty: in
	lastError string

	chain     uint64
	knows     depth
	head      block
	heard     time.Time // of head
	finalized uint64
	syncing   bool

	history       history
	ejectedUntil  time.Time // zero: it is not
	ejectedFor    Reason
	ejected       int // times, until it stays in for long
	returnedAt    time.Time
	fullSince     time.Time
	ejectionTotal map[Reason]uint64

	state  State // as last logged
	since  time.Time
	judged bool
	told   Verdict // the last one, if it was judged
}

func newNode(rpc *rpcapi.Node, label string, mode Mode, window time.Duration, now time.Time) *node {
	n := &node{tag: rpc.Tag, label: label, fault: ReasonUnchecked, since: now, ejectionTotal: make(map[Reason]uint64)}
	n.rpc.Store(rpc)
	for _, r := range ejections() {
		n.ejectionTotal[r] = 0
	}
	if mode == ModeNone {
		n.checked, n.fault, n.fullSince = true, "", now
	}
	n.history.turn(&n.counters, window, now)
	return n
}

// observe counts a call; it reports whether somebody has to look at once.
func (n *node) observe(o Outcome, d time.Duration, refusals uint64) bool {
	n.count(o, d)
	look := false
	switch o {
	case Refused:
		look = n.streak.Add(1) == refusals
	case Answered, Failed, Throttled:
		if n.streak.Load() != 0 {
			n.streak.Store(0)
		}
	default:
	}
	if o != Answered && o != Canceled && n.returning.Load() {
		n.relapse.Store(int64(max(d, 0))<<4 | int64(o))
		look = true
	}
	return look
}

// takeRelapse is the last failed call since it returned. A call that was sent before that says nothing.
func (n *node) takeRelapse(now time.Time) (Outcome, bool) {
	v := n.relapse.Swap(0)
	if v == 0 || now.Add(-time.Duration(v>>4)).Before(n.returnedAt) {
		return 0, false
	}
	return Outcome(v & 15), true
}

func (n *node) current() State {
	switch {
	case n.fault != "":
		return Unhealthy
	case !n.ejectedUntil.IsZero():
		return Ejected
	case !n.returnedAt.IsZero():
		return Returning
	default:
		return Healthy
	}
}

// use: it is given calls.
func (n *node) use() bool { s := n.current(); return s == Healthy || s == Returning }

func (n *node) reason() Reason {
	if n.fault != "" {
		return n.fault
	}
	if n.current() == Healthy {
		return ""
	}
	return n.ejectedFor
}

func (n *node) share(c *Config, now time.Time) float64 {
	switch n.current() {
	case Healthy:
		return 1
	case Returning:
		part := float64(now.Sub(n.returnedAt)) / float64(c.ReturnTime)
		return min(c.ReturnShare+(1-c.ReturnShare)*max(part, 0), 1)
	default:
		return 0
	}
}

// back lets it return with a small share.
func (n *node) back(c *Config, now time.Time) {
	n.ejectedUntil, n.fullSince, n.returnedAt = time.Time{}, time.Time{}, now
	n.streak.Store(0)
	n.relapse.Store(0)
	n.returning.Store(true)
	n.history.restart(&n.counters, c.Window, now)
}

// full gives it all of its places.
func (n *node) full(now time.Time) {
	n.returnedAt, n.fullSince = time.Time{}, now
	n.returning.Store(false)
}

// out takes all of them.
func (n *node) out() {
	n.returnedAt, n.fullSince = time.Time{}, time.Time{}
	n.returning.Store(false)
}

func (n *node) headAge(now time.Time) time.Duration {
	if n.head.at.IsZero() {
		return 0
	}
	return max(now.Sub(n.head.at), 0)
}
