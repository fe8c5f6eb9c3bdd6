package peers

import "time"

const (
	// offsetWindow is how long a fastest message counts, at most; at least half of it.
	offsetWindow = time.Minute
	// slowest is what the fastest message of a window may have taken.
	slowest = 250 * time.Millisecond
	// settleSamples and settleSpan are what it takes to believe that a peer's clock is behind ours.
	settleSamples = 16
	settleSpan    = 10 * time.Second
)

// clockOffset bounds what our clock is ahead of a peer's by the fastest message of a window; see the package's
// documentation. Two halves of the window turn in place of a queue.
type clockOffset struct {
	now, old half
	turnAt   time.Time
	first    time.Time
	samples  int // up to settleSamples
	settled  bool
}

// half is the least of arrival less sending in half a window.
type half struct {
	least time.Duration
	any   bool
}

func (h *half) add(d time.Duration) {
	if !h.any || d < h.least {
		h.least, h.any = d, true
	}
}

// learn takes one message in, and returns how long it took.
func (c *clockOffset) learn(arrived, sent time.Time) time.Duration {
	d := arrived.Sub(sent)
	switch {
	case c.first.IsZero():
		c.first, c.turnAt = arrived, arrived.Add(offsetWindow/2)
	case !arrived.Before(c.turnAt):
		c.old, c.now = c.now, half{}
		c.turnAt = arrived.Add(offsetWindow / 2)
	}
	c.now.add(d)
	c.samples = min(c.samples+1, settleSamples)
	c.settled = c.settled || c.samples == settleSamples && arrived.Sub(c.first) >= settleSpan
	return max(d-c.offset(), 0)
}

// offset is what our clock is ahead of the peer's.
func (c *clockOffset) offset() time.Duration {
	least := c.now.least
	switch {
	case !c.now.any && !c.old.any:
		return 0
	case !c.now.any, c.old.any && c.old.least < least:
		least = c.old.least
	}
	switch {
	case least < 0:
		return least
	case least > slowest && c.settled:
		return least - slowest
	}
	return 0
}
