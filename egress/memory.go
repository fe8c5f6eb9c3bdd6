package egress

import (
	"millrace/internal/ledger"
	"millrace/internal/order"
)

// recall is a map that forgets: what was put in is found until its time, and is let go of within
// two spans after that. Two generations of maps instead of a queue of deadlines keep it lean.
type recall[K comparable, V any] struct {
	span     micros
	turnAt   micros
	now, old map[K]V
}

func newRecall[K comparable, V any](span micros) recall[K, V] {
	return recall[K, V]{span: span, now: map[K]V{}, old: map[K]V{}}
}

// turn starts a new generation when the old one is due; it is called with the time now and then.
func (r *recall[K, V]) turn(now micros) {
	if now < r.turnAt {
		return
	}
	r.turnAt = now + r.span
	r.old, r.now = r.now, make(map[K]V, len(r.now)/2)
}

func (r *recall[K, V]) put(k K, v V) { r.now[k] = v }

func (r *recall[K, V]) find(k K) (V, bool) {
	if v, ok := r.now[k]; ok {
		return v, true
	}
	v, ok := r.old[k]
	return v, ok
}

// copyKey names what copies of an order share: the first half of its id, or of its key, within one
// origin. Half a SHA-256 is beyond chance, and whoever finds a collision hides an order of his own.
type copyKey struct {
	half   [16]byte
	origin uint16
	kind   copyKind
}

type copyKind uint8

const (
	byID copyKind = iota + 1
	byKey
)

func idKey(id order.ID, origin uint16) copyKey {
	return copyKey{half: [16]byte(id[:16]), origin: origin, kind: byID}
}

func keyKey(key order.ID, origin uint16) copyKey {
	return copyKey{half: [16]byte(key[:16]), origin: origin, kind: byKey}
}

// mark is an order that the target took or refused.
type mark struct {
	accept  order.AcceptID
	until   micros
	outcome ledger.Outcome
}

// groupKey names the submissions that replace each other.
type groupKey struct {
	signer [20]byte
	uuid   order.UUID
	origin uint16
}

// floor is the highest nonce of a group that the target has, or may have.
type floor struct {
	nonce  uint64
	accept order.AcceptID
	id     order.ID
	until  micros
}

// memory is what a loop knows about orders that ended. It is rebuilt from the ledger by a new owner.
type memory struct {
	maxAge micros
	// recorded has the acceptances with a record; copies the delivered and refused orders; floors
	// the replacement state.
	recorded recall[order.AcceptID, ledger.Outcome]
	copies   recall[copyKey, mark]
	floors   recall[groupKey, floor]
	// doubtful has the copies of what the target may have got without our knowledge: stored before
	// this owner's start, or ended without a verdict. Another copy of them may be a repeat.
	doubtful recall[copyKey, struct{}]
	origins  []string
	index    map[string]uint16
}

func newMemory(maxAge micros) *memory {
	m := &memory{
		maxAge:   maxAge,
		recorded: newRecall[order.AcceptID, ledger.Outcome](2 * maxAge),
		copies:   newRecall[copyKey, mark](maxAge),
		floors:   newRecall[groupKey, floor](maxAge),
		doubtful: newRecall[copyKey, struct{}](maxAge),
		index:    map[string]uint16{},
	}
	m.origin("") // our own doors are 0
	return m
}

// maxOrigins bounds the table of origins; they are names out of our own configuration.
const maxOrigins = 1 << 12

// origin is the index of a peer's name. Beyond maxOrigins they share one, so that a copy is
// suppressed rather than sent twice.
func (m *memory) origin(name string) uint16 {
	if i, ok := m.index[name]; ok {
		return i
	}
	if len(m.origins) >= maxOrigins {
		return maxOrigins - 1
	}
	i := uint16(len(m.origins)) //nolint:gosec // at most maxOrigins
	m.origins = append(m.origins, name)
	m.index[name] = i
	return i
}

func (m *memory) turn(now micros) {
	m.recorded.turn(now)
	m.copies.turn(now)
	m.floors.turn(now)
	m.doubtful.turn(now)
}

// sent finds a delivered or refused copy: the same id in it's origin, or its key in another one.
func (m *memory) sent(it *item, now micros) (mark, bool) {
	if c, ok := m.copies.find(idKey(it.id, it.origin)); ok && now < c.until {
		return c, true
	}
	for o := range m.origins {
		if o := uint16(o); o != it.origin {
			if c, ok := m.copies.find(keyKey(it.key, o)); ok && now < c.until {
				return c, true
			}
		}
	}
	return mark{}, false
}

// remember keeps what a terminal record means for the orders to come. of is the outcome of the copy
// that a duplicate names.
func (m *memory) remember(e *ledger.Entry, origin uint16) {
	until := toMicros(e.DoneAt) + m.maxAge
	m.recorded.put(e.Accept, e.Outcome)
	if e.Ambiguous || e.Repeat {
		m.doubt(e.ID, e.Key, origin)
	}
	if e.Outcome == ledger.Delivered || e.Outcome == ledger.Refused {
		c := mark{accept: e.Accept, until: until, outcome: e.Outcome}
		m.copies.put(idKey(e.ID, origin), c)
		m.copies.put(keyKey(e.Key, origin), c)
	}
	if !e.Replacement.IsZero() && m.raises(e) {
		k := groupKey{signer: e.Signer, uuid: e.Replacement, origin: origin}
		if f, ok := m.floors.find(k); !ok || f.nonce < e.Nonce || f.until < toMicros(e.DoneAt) {
			m.floors.put(k, floor{nonce: e.Nonce, accept: e.Accept, id: e.ID, until: until})
		} else {
			f.until = until
			m.floors.put(k, f)
		}
	}
}

func (m *memory) doubt(id, key order.ID, origin uint16) {
	m.doubtful.put(idKey(id, origin), struct{}{})
	m.doubtful.put(keyKey(key, origin), struct{}{})
}

// doubts reports whether the target may have a copy of it.
func (m *memory) doubts(it *item) bool {
	_, ok := m.doubtful.find(idKey(it.id, it.origin))
	for o := range m.origins {
		if o := uint16(o); o != it.origin && !ok {
			_, ok = m.doubtful.find(keyKey(it.key, o))
		}
	}
	return ok
}

// raises reports whether the target has e's content, or may have it.
func (m *memory) raises(e *ledger.Entry) bool {
	switch e.Outcome {
	case ledger.Delivered:
		return true
	case ledger.Duplicate:
		of, ok := m.recorded.find(e.Of)
		return ok && of == ledger.Delivered || e.Ambiguous || e.Repeat
	case ledger.Expired:
		return e.Ambiguous || e.Repeat // a repeat may have been taken from the owner before
	default:
		return false
	}
}

// floor returns the highest nonce of a group that the target has, or may have.
func (m *memory) floor(k groupKey, now micros) (floor, bool) {
	f, ok := m.floors.find(k)
	return f, ok && now < f.until
}
