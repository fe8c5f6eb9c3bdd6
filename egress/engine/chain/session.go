package chain

import (
	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
)

// maxKnown bounds what a session remembers of a client's blocks; the oldest leave first, and to send
// one of those again is harmless.
const maxKnown = 1 << 14

// Session is what is known of one client since it was last asked for its head.
type Session struct {
	// Head and Number are the client's head as far as its answers tell.
	Head   common.Hash
	Number uint64
	// Floor is the newest recorded forkchoice that was sent: no older one may follow.
	Floor record.ID
	// Shadow: the client builds too, so no forkchoice with attributes is superseded.
	Shadow bool

	known map[common.Hash]bool // true: valid, false: invalid
	order []common.Hash        // of known, oldest first
	// above holds the parents of the payloads sent after the last forkchoice.
	above map[common.Hash]common.Hash
}

// NewSession begins a session with a client whose head is known; floor is the newest recorded
// forkchoice that earlier sessions sent.
func NewSession(head common.Hash, number uint64, floor record.ID) *Session {
	s := &Session{Head: head, Number: number, Floor: floor, known: map[common.Hash]bool{}, above: map[common.Hash]common.Hash{}}
	s.Valid(head)
	return s
}

// Valid notes that the client holds the block and its ancestors to be valid.
func (s *Session) Valid(h common.Hash) { s.note(h, true) }

// Invalid notes that the client refused the block.
func (s *Session) Invalid(h common.Hash) { s.note(h, false) }

func (s *Session) note(h common.Hash, valid bool) {
	if _, there := s.known[h]; !there {
		if len(s.order) >= maxKnown {
			delete(s.known, s.order[0])
			s.order = s.order[1:]
		}
		s.order = append(s.order, h)
	}
	s.known[h] = valid
}

// Holds says whether the client is known to have executed the block.
func (s *Session) Holds(h common.Hash) bool { return s.known[h] }

// Refused says whether the client said INVALID to the block.
func (s *Session) Refused(h common.Hash) bool {
	valid, there := s.known[h]
	return there && !valid
}

// Took notes that the client answered VALID to a payload.
func (s *Session) Took(p engineapi.Payload) {
	s.Valid(p.Hash)
	s.above[p.Hash] = p.Parent
}

// depth is how many payloads in a row, up to h, were sent after the last forkchoice.
func (s *Session) depth(h common.Hash) int {
	n := 0
	for parent, ok := s.above[h]; ok && n < len(s.above); parent, ok = s.above[h] {
		n, h = n+1, parent
	}
	return n
}

// Moved notes that the client took a forkchoice for the head; id is zero for one of our own making.
func (s *Session) Moved(head common.Hash, number uint64, id record.ID) {
	s.Head, s.Number = head, number
	clear(s.above)
	s.Sent(id)
}

// Sent raises the floor to a forkchoice that was put on the wire, whatever became of it.
func (s *Session) Sent(id record.ID) {
	if id.Compare(s.Floor) > 0 {
		s.Floor = id
	}
}

// Adopt notes the recorded ancestors of the head as held: a client that executed a block has
// executed what is below it.
func (s *Session) Adopt(x *Index, t Time) {
	h := s.Head
	for range maxKnown / 2 {
		c, ok := x.Block(h, t)
		if !ok {
			return
		}
		h = c.Payload.Parent
		s.Valid(h)
	}
}
