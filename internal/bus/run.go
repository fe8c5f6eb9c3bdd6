package bus

// run is what is known of the messages of a stream, by sequence: each from when it is known to be stored until
// the consumer is past it. The zero value is empty. It has no lock of its own.
type run[T any] struct {
	known map[uint64]T
	sure  uint64 // everything up to here was known, or passed, when it was looked at
	done  uint64 // passed up to here
}

// standing is what a message that is known means to the consumer.
type standing uint8

const (
	standingHeld  standing = iota + 1 // not ended yet
	standingEnded                     // nothing but the consumer is left to move
	standingAgain                     // it has to be handed out again
)

func (r *run[T]) add(sequence uint64, v T) {
	if r.known == nil {
		r.known = make(map[uint64]T)
	}
	r.known[sequence] = v
}

func (r *run[T]) remove(sequence uint64) { delete(r.known, sequence) }

// passable is passage's.
func (r *run[T]) passable(at, last uint64, of func(T) standing) (to uint64, stranger bool) {
	for to = at; ; to++ {
		v, ok := r.known[to+1]
		if !ok {
			stranger = to < last
			break
		}
		if s := of(v); s != standingEnded {
			stranger = s == standingAgain
			break
		}
	}
	for seq := max(to, r.sure) + 1; seq <= last && !stranger; seq++ {
		if _, ok := r.known[seq]; !ok {
			return to, true
		}
		r.sure = seq
	}
	return to, stranger
}

// pass removes what ended, as drop says, up to a sequence.
func (r *run[T]) pass(to uint64, drop func(T) bool) {
	if to <= r.done {
		return
	}
	if to-r.done > uint64(len(r.known)) {
		for seq, v := range r.known {
			if seq <= to && drop(v) {
				delete(r.known, seq)
			}
		}
	} else {
		for seq := r.done + 1; seq <= to; seq++ {
			if v, ok := r.known[seq]; ok && drop(v) {
				delete(r.known, seq)
			}
		}
	}
	r.done = to
}
