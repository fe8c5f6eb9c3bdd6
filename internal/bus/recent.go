package bus

import (
	"sync"
	"time"

	"millrace/internal/order"
)

// recentRoom is how many orders of a class are remembered without their bodies, about 1 kB each: what a
// follower that looks four times a second needs at 8,000 orders/s.
const recentRoom = 2048

// recent remembers what this process stored on one OK stream last, so that who follows the stream need not
// read it back (see passer for what that costs). It is empty until somebody follows.
type recent struct {
	mu    sync.Mutex
	slots []order.Logged // by sequence modulo recentRoom; nil: nobody follows
}

// follow begins to remember.
func (r *recent) follow() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slots == nil {
		r.slots = make([]order.Logged, recentRoom)
	}
}

// add remembers o as it would be read back, without its body.
func (r *recent) add(o *order.Order, sequence uint64, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slots == nil {
		return
	}
	c := readBack(o)
	c.Body = nil
	if c.Trail != nil {
		t := *c.Trail
		c.Trail = &t
	}
	r.slots[sequence%recentRoom] = order.Logged{Order: c, Sequence: sequence, StoredAt: at}
}

// at returns what was stored at a sequence; false: it was not stored here, or too long ago.
func (r *recent) at(sequence uint64) (order.Logged, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slots == nil {
		return order.Logged{}, false
	}
	e := r.slots[sequence%recentRoom]
	return e, e.Sequence == sequence && e.Order != nil
}
