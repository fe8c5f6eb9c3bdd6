package health

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Latencies are counted in four steps for each doubling, so a percentile is known to a fifth. Every fourth bound is
// one of the exported histogram's: 125 µs, 250 µs, … 8.192 s.
const (
	step     = 125 * time.Microsecond / 4
	octaves  = 17
	buckets  = 4 + 4*octaves
	exported = octaves
)

// bucketOf is the place of a latency. Negative ones are in the first, those above all bounds in the last.
func bucketOf(d time.Duration) int {
	q := uint64(max(d, 0) / step)
	if q < 4 {
		return int(q)
	}
	e := bits.Len64(q) - 3
	return min(4+4*e+int(q>>e&3), buckets-1)
}

// lower is the smallest latency of a bucket.
func lower(bucket int) time.Duration {
	if bucket < 4 {
		return time.Duration(bucket) * step
	}
	e := bucket/4 - 1
	return time.Duration((4+bucket%4)<<e) * step
}

// counters are a node's calls since it is known. They only grow: a window is a difference, so that whoever counts
// never meets who looks.
type counters struct {
	outcomes [outcomes + 1]atomic.Uint64
	latency  [buckets]atomic.Uint64
	nanos    atomic.Int64
}

// count adds a call. Only calls that the node had the time to answer have a latency.
func (c *counters) count(o Outcome, d time.Duration) {
	c.outcomes[o].Add(1)
	if o == Answered || o == Failed || o == TimedOut {
		c.latency[bucketOf(d)].Add(1)
		c.nanos.Add(int64(d))
	}
}

// tally is a reading of counters, or the difference of two.
type tally struct {
	outcomes [outcomes + 1]uint64
	latency  [buckets]uint64
	nanos    int64
}

func (c *counters) read(t *tally) {
	for i := range c.outcomes {
		t.outcomes[i] = c.outcomes[i].Load()
	}
	for i := range c.latency {
		t.latency[i] = c.latency[i].Load()
	}
	t.nanos = c.nanos.Load()
}

func (t *tally) subtract(o *tally) {
	for i := range t.outcomes {
		t.outcomes[i] -= o.outcomes[i]
	}
	for i := range t.latency {
		t.latency[i] -= o.latency[i]
	}
	t.nanos -= o.nanos
}

// samples is how many calls say something about the node.
func (t *tally) samples() uint64 {
	return t.outcomes[Answered] + t.errors() + t.outcomes[Throttled]
}

func (t *tally) errors() uint64 {
	return t.outcomes[Refused] + t.outcomes[TimedOut] + t.outcomes[Failed]
}

func (t *tally) rate(n uint64) float64 {
	all := t.samples()
	if all == 0 {
		return 0
	}
	return float64(n) / float64(all)
}

// timed is how many calls have a latency.
func (t *tally) timed() uint64 {
	var n uint64
	for _, k := range t.latency {
		n += k
	}
	return n
}

// percentile is the latency that a share q of calls does not exceed, 0 without calls.
func (t *tally) percentile(q float64) time.Duration {
	rank := q * float64(t.timed())
	if rank <= 0 {
		return 0
	}
	below := 0.0
	for i, k := range t.latency {
		n := float64(k)
		if k == 0 || below+n < rank {
			below += n
			continue
		}
		if i == buckets-1 {
			return lower(i)
		}
		width := float64(lower(i+1) - lower(i))
		return lower(i) + time.Duration(width*(rank-below)/n)
	}
	return 0
}

// slots is how many readings a window is cut into.
const slots = 10

// history has readings of a window, oldest first.
type history struct {
	readings []tally
	at       time.Time // of the last one
}

// turn adds a reading when the last one is a slot old.
func (h *history) turn(c *counters, window time.Duration, now time.Time) {
	if len(h.readings) > 0 && now.Sub(h.at) < window/slots {
		return
	}
	if len(h.readings) == slots {
		copy(h.readings, h.readings[1:])
		h.readings = h.readings[:slots-1]
	}
	var t tally
	c.read(&t)
	h.readings, h.at = append(h.readings, t), now
}

// restart forgets what was.
func (h *history) restart(c *counters, window time.Duration, now time.Time) {
	h.readings = h.readings[:0]
	h.turn(c, window, now)
}

// window is what happened since the oldest reading.
func (h *history) window(c *counters) tally {
	var t tally
	c.read(&t)
	if len(h.readings) > 0 {
		t.subtract(&h.readings[0])
	}
	return t
}
