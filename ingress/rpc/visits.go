package rpc

import (
	"context"
	"sync"
)

// visits counts the open WebSockets, so that Run ends after the last of them: the server does not
// wait for hijacked connections.
type visits struct {
	mu     sync.Mutex
	n      int
	closed bool
	empty  chan struct{} // closed when closed and n is 0
}

func newVisits() *visits { return &visits{empty: make(chan struct{})} }

// enter is false once the door is closed.
func (v *visits) enter() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return false
	}
	v.n++
	return true
}

func (v *visits) leave() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.n--; v.n == 0 && v.closed {
		close(v.empty)
	}
}

// close lets nobody in any more.
func (v *visits) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.closed {
		v.closed = true
		if v.n == 0 {
			close(v.empty)
		}
	}
}

// wait waits for the last to leave, or for ctx.
func (v *visits) wait(ctx context.Context) error {
	select {
	case <-v.empty:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
