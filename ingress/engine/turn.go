package engine

import (
	"context"
	"sync"
	"time"
)

// turn is the order lock held by one call.
type turn struct {
	d *dispatcher

	mu    sync.Mutex
	over  bool
	until time.Time // when others need wait no longer; zero: not known yet
}

// hold takes the order lock. Nobody sets a timer for their own turn, which is over long before it would fire: who
// finds the lock taken does, and ends a turn that is overdue.
func (d *dispatcher) hold(ctx context.Context) (*turn, error) {
	select {
	case d.order <- struct{}{}:
		return d.begin(), nil
	default:
	}
	timer := time.NewTimer(d.turn.Load().left())
	defer timer.Stop()
	for {
		select {
		case d.order <- struct{}{}:
			return d.begin(), nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-timer.C:
			current := d.turn.Load()
			if current.overdue() {
				current.release()
			}
			timer.Reset(current.left())
		}
	}
}

// begin notes who holds the lock.
func (d *dispatcher) begin() *turn {
	t := &turn{d: d}
	d.turn.Store(t)
	return t
}

// soon bounds what is left of the turn, once all that is to happen in it is that a request is written.
func (t *turn) soon() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until = time.Now().Add(sendHold)
}

// release lets go of the lock. It may be called often.
func (t *turn) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.over = true
		<-t.d.order
	}
}

// overdue may be asked of no turn: the lock was taken just now.
func (t *turn) overdue() bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.over && !t.until.IsZero() && !time.Now().Before(t.until)
}

// left is after what time to look again.
func (t *turn) left() time.Duration {
	if t == nil {
		return time.Millisecond
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return time.Millisecond // another's, who is about to say so
	}
	if t.until.IsZero() {
		return sendHold // it ends that much later than it will be bounded, so no sooner
	}
	return max(time.Until(t.until), 0)
}
