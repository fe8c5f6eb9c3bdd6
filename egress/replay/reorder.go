package replay

import (
	"container/heap"

	"millrace/internal/order"
)

// Bounds of what is held to put orders back into the order of their receipt. At a bound the oldest
// goes on, so that the bound costs at most the order of a moment.
const (
	maxHeld      = 16 << 10
	maxHeldBytes = 64 << 20
)

// reorder hands on orders by the time of their receipt, each once the newest is ReorderWindow past it.
type reorder struct {
	held   deliveries
	bytes  int
	newest int64 // µs
	to     func(order.Delivery) error
}

func (r *reorder) add(d order.Delivery) error {
	heap.Push(&r.held, d)
	r.bytes += d.Size
	r.newest = max(r.newest, d.Order.ReceivedAt.UnixMicro())
	for len(r.held) > 0 && (len(r.held) > maxHeld || r.bytes > maxHeldBytes || r.due()) {
		if err := r.pop(); err != nil {
			return err
		}
	}
	return nil
}

func (r *reorder) due() bool {
	return r.newest-r.held[0].Order.ReceivedAt.UnixMicro() > ReorderWindow.Microseconds()
}

// flush hands on all that is held.
func (r *reorder) flush() error {
	for len(r.held) > 0 {
		if err := r.pop(); err != nil {
			return err
		}
	}
	return nil
}

func (r *reorder) pop() error {
	d, _ := heap.Pop(&r.held).(order.Delivery)
	r.bytes -= d.Size
	return r.to(d)
}

// deliveries is a heap by the time of receipt, then by sequence.
type deliveries []order.Delivery

func (h deliveries) Len() int      { return len(h) }
func (h deliveries) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h deliveries) Less(i, j int) bool {
	if c := h[i].Order.ReceivedAt.Compare(h[j].Order.ReceivedAt); c != 0 {
		return c < 0
	}
	return h[i].Sequence < h[j].Sequence
}

// Push is heap.Interface's.
func (h *deliveries) Push(x any) {
	d, _ := x.(order.Delivery)
	*h = append(*h, d)
}

// Pop is heap.Interface's.
func (h *deliveries) Pop() any {
	old := *h
	d := old[len(old)-1]
	old[len(old)-1] = order.Delivery{}
	*h = old[:len(old)-1]
	return d
}
