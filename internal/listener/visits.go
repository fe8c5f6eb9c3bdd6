package listener

import (
	"context"
	"sync"
)

// Visits counts who is inside, so that a door ends after the last of them has left: a server does not wait for
// hijacked connections, nor for handlers whose connection it closed.
type Visits struct {
	mu     sync.Mutex
	n      int
	closed bool
	empty  chan struct{} // closed when closed and n is 0
}

// NewVisits has nobody inside.
func NewVisits() *Visits { return &Visits{empty: make(chan struct{})} }

// Enter lets one in, who must Leave; false: it is closed.
func (v *Visits) Enter() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return false
	}
	v.n++
	return true
}

// Leave lets one out who was let in.
func (v *Visits) Leave() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.n--; v.n == 0 && v.closed {
		close(v.empty)
	}
}

// Close lets nobody in any more. More than once is as good as once.
func (v *Visits) Close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.closed {
		v.closed = true
		if v.n == 0 {
			close(v.empty)
		}
	}
}

// Wait waits until it is closed and the last has left; ctx that ends before is an error.
func (v *Visits) Wait(ctx context.Context) error {
	select {
	case <-v.empty:
		return nil
	default: // nobody is inside, though ctx may have ended, too
	}
	select {
	case <-v.empty:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
