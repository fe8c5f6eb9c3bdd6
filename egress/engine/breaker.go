package engine

import (
	"math/rand/v2"
	"time"
)

// breaker spaces the calls to a client that fails. Below its bounds a failed call is repeated after a
// random part of a wait that doubles; above, the client is only probed.
type breaker struct {
	min, max, every time.Duration // first and longest wait; shortest one when open
	after           int
	within          time.Duration
	random          func() float64 // in [0, 1)

	failures int
	since    time.Time
	wait     time.Duration
}

func newBreaker(c *Config, role Role) breaker {
	b := breaker{
		min: c.RetryMin, max: c.RetryMax, every: c.ProbeEvery,
		after: c.BreakerAfter, within: c.BreakerTime,
		random: rand.Float64,
	}
	if role == Primary {
		// Its slots go by: it is on this machine or near, and its first sign of life counts.
		b.max, b.every = c.PrimaryRetry, min(c.ProbeEvery, c.PrimaryRetry)
		b.min = min(b.min, b.max)
	}
	return b
}

// fail notes a failure and is how long to wait before the next call.
func (b *breaker) fail(now time.Time) time.Duration {
	if b.failures == 0 {
		b.since, b.wait = now, b.min
	} else {
		b.wait = min(2*b.wait, b.max)
	}
	b.failures++
	d := time.Duration(b.random() * float64(b.wait))
	if b.open(now) {
		// A random part may be nearly nothing: an open breaker lets through one probe in a while.
		return max(d, b.every)
	}
	return d
}

// open says whether the client may only be probed.
func (b *breaker) open(now time.Time) bool {
	return b.failures >= b.after || b.failures > 0 && now.Sub(b.since) >= b.within
}

func (b *breaker) succeed() { b.failures = 0 }
