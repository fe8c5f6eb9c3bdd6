package egress

// indexed is a binary heap whose members know their place, so that any of them can leave it.
type indexed struct {
	items  []*item
	before func(a, b *item) bool
	place  func(*item) *int32
}

// newTimers orders by wake time.
func newTimers() *indexed {
	return &indexed{
		before: func(a, b *item) bool { return a.wake() < b.wake() },
		place:  func(it *item) *int32 { return &it.wakeAt },
	}
}

// newWaiting orders by nonce, highest first; of equal ones the earlier stored goes first.
func newWaiting() indexed {
	return indexed{
		before: func(a, b *item) bool {
			if a.nonce != b.nonce {
				return a.nonce > b.nonce
			}
			return a.storedAt < b.storedAt
		},
		place: func(it *item) *int32 { return &it.groupAt },
	}
}

func (h *indexed) top() *item {
	if len(h.items) == 0 {
		return nil
	}
	return h.items[0]
}

func (h *indexed) push(it *item) {
	h.items = append(h.items, it)
	h.up(len(h.items) - 1)
}

// remove takes it out; an item that is not in the heap stays out.
func (h *indexed) remove(it *item) {
	i := int(*h.place(it))
	if i < 0 {
		return
	}
	last := len(h.items) - 1
	moved := h.items[last]
	h.items[last] = nil
	h.items = h.items[:last]
	*h.place(it) = -1
	if i != last {
		h.set(i, moved)
		h.down(i)
		h.up(int(*h.place(moved)))
	}
}

func (h *indexed) set(i int, it *item) {
	h.items[i] = it
	*h.place(it) = int32(i) //nolint:gosec // MaxWaiting bounds the heap
}

func (h *indexed) up(i int) {
	it := h.items[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !h.before(it, h.items[parent]) {
			break
		}
		h.set(i, h.items[parent])
		i = parent
	}
	h.set(i, it)
}

func (h *indexed) down(i int) {
	it := h.items[i]
	for {
		child := 2*i + 1
		if child >= len(h.items) {
			break
		}
		if r := child + 1; r < len(h.items) && h.before(h.items[r], h.items[child]) {
			child = r
		}
		if !h.before(h.items[child], it) {
			break
		}
		h.set(i, h.items[child])
		i = child
	}
	h.set(i, it)
}
