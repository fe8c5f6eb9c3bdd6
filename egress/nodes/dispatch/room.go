package dispatch

import "context"

// Room returns once a node has a free place and no call waits for it; it takes nothing, so another call may be faster.
// It is for who would rather leave calls elsewhere than have them wait here. It fails with the cause of ctx's end.
func (d *Dispatcher) Room(ctx context.Context) error {
	for {
		d.mu.Lock()
		if d.hasRoom() {
			d.mu.Unlock()
			return nil
		}
		if d.room == nil {
			d.room = make(chan struct{})
		}
		room := d.room
		d.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (d *Dispatcher) hasRoom() bool {
	if d.waiting > 0 {
		return false
	}
	for _, x := range d.nodes {
		if x.open && x.free() {
			return true
		}
	}
	return false
}

// tellRoom wakes who waits for a free place; mu is held.
func (d *Dispatcher) tellRoom() {
	if d.room != nil && d.hasRoom() {
		close(d.room)
		d.room = nil
	}
}
