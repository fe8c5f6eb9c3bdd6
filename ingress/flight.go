package ingress

import (
	"context"
	"sync"

	"millrace/internal/order"
)

// flights are the orders that are being stored or wait for their verdict, by id: a repeat that
// comes meanwhile joins the first call's outcome (CORRECTNESS 5). Bounded by the requests in
// flight.
type flights struct {
	mu   sync.Mutex
	byID map[order.ID]*flight
}

// flight is one order on its way. The call that began it leads and lands it exactly once.
type flight struct {
	id order.ID
	// done is made by the first that joins, under flights.mu; closed when err is final.
	done chan struct{}
	err  error // nil: accepted
}

func newFlights() *flights { return &flights{byID: make(map[order.ID]*flight)} }

// board returns the flight of id; lead tells that it is the caller's own, who must land it.
func (fs *flights) board(id order.ID) (f *flight, lead bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f, ok := fs.byID[id]; ok {
		if f.done == nil {
			f.done = make(chan struct{})
		}
		return f, false
	}
	f = &flight{id: id}
	fs.byID[id] = f
	return f, true
}

// land publishes the outcome to all who joined.
func (fs *flights) land(f *flight, err error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	delete(fs.byID, f.id)
	f.err = err
	if f.done != nil {
		close(f.done)
	}
}

// outcome waits for a joined flight to land. When ctx ends first the outcome is unknown.
func (f *flight) outcome(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return order.ErrUnavailable
	}
}
