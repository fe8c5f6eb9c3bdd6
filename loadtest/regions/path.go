package regions

import (
	"math/rand/v2"
	"sync"
	"time"
)

// backlog is how much of a bandwidth may wait in a path; then the sender waits.
const backlog = 500 * time.Millisecond

// path is one direction between two nodes as it is now; every connection's bytes that go that way pass it.
type path struct {
	base Conditions

	mu    sync.Mutex // guards what follows
	now   Conditions
	cuts  int           // partitions that hold
	open  chan struct{} // closed while none does
	busy  time.Time     // until when the bytes before take the bandwidth
	bytes int64
}

func newPath(c Conditions) *path {
	p := &path{base: c, now: c, open: make(chan struct{})}
	close(p.open)
	return p
}

// cut holds everything back until as many heals; what is on its way still arrives.
func (p *path) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cuts++; p.cuts == 1 {
		p.open = make(chan struct{})
	}
}

// heal ends one cut.
func (p *path) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cuts == 0 {
		return
	}
	if p.cuts--; p.cuts == 0 {
		close(p.open)
	}
}

// set changes the conditions of what comes from now on.
func (p *path) set(c Conditions) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = c
}

// restore gives the path the conditions of the topology again; partitions stay.
func (p *path) restore() { p.set(p.base) }

// gate is closed when something may pass.
func (p *path) gate() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
}

// transmit takes the bandwidth for n bytes that came at a time and returns when the last of them has
// left. A time in the future says how long the queue is.
func (p *path) transmit(at time.Time, n int) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at.After(p.busy) {
		p.busy = at
	}
	p.busy = p.busy.Add(p.now.Bandwidth.takes(n))
	p.bytes += int64(n)
	return p.busy
}

// flight is how long the next bytes are on their way.
func (p *path) flight() time.Duration {
	p.mu.Lock()
	c := p.now
	p.mu.Unlock()
	if c.Jitter <= 0 {
		return c.Delay
	}
	return c.Delay - c.Jitter + rand.N(2*c.Jitter) //nolint:gosec // no secret
}

// carried is how many bytes have entered the path.
func (p *path) carried() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes
}
