package chain

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common"
)

// DefaultCheckpoint is how many payloads may follow each other without a forkchoice. Geth keeps the
// state of 128 blocks above its head and silently changes its way of syncing beyond.
const DefaultCheckpoint = 32

// Kind is what a step sends.
type Kind uint8

// The kinds.
const (
	// Payload sends a recorded newPayload.
	Payload Kind = iota + 1
	// Checkpoint moves the head along the path: a recorded forkchoice that named it, or one of our
	// own with zero for safe and finalized.
	Checkpoint
	// Forkchoice sends the recorded forkchoice that is the goal.
	Forkchoice
)

// Kinds lists every kind.
func Kinds() []Kind { return []Kind{Payload, Checkpoint, Forkchoice} }

var kindNames = [...]string{"", "payload", "checkpoint", "forkchoice"}

// String is the kind as a metric label.
func (k Kind) String() string {
	if int(k) >= len(kindNames) {
		return fmt.Sprintf("unknown_%d", uint8(k))
	}
	return kindNames[k]
}

// Step is one call to make.
type Step struct {
	Kind Kind
	// Call is the recorded call to send; of a checkpoint of our own making the target, whose method
	// and number of parameters it takes.
	Call Call
	// Head and Number are the block of a payload, or the head that a forkchoice names.
	Head   common.Hash
	Number uint64
}

// Own says that the step is a forkchoice of our own making, with zero for safe and finalized.
func (s Step) Own() bool { return s.Kind == Checkpoint && s.Call.Forkchoice.Head != s.Head }

// Gap is what the record lacks: the blocks From to To, if the client's head and the target are on
// one branch. Parent is the missing block itself, number To.
type Gap struct { //nolint:errname // a status shows it as what it is, a gap
	From, To uint64
	Parent   common.Hash
}

// Error says which blocks are missing.
func (g *Gap) Error() string {
	return fmt.Sprintf("blocks %d to %d are not in the record (missing %s)", g.From, g.To, g.Parent)
}

// Plan is the steps that bring the client of s to the target, a forkchoice call. When the record does
// not connect the two, the error is a *Gap; when the client refused a block on the way, it is a
// *BlockedError.
func (x *Index) Plan(s *Session, target Call, every int, t Time) ([]Step, error) {
	path, err := x.path(s, target.Forkchoice.Head, t)
	if err != nil {
		return nil, err
	}
	steps := x.steps(s, path, target, every, t)
	return append(steps, x.forkchoice(s, target)), nil
}

// BlockedError says that the client refused a block on the way to the target.
type BlockedError struct{ Hash common.Hash }

// Error names the block.
func (b *BlockedError) Error() string { return fmt.Sprintf("the client refused block %s", b.Hash) }

// path is the payloads from a block that the client holds (not among them) up to head.
func (x *Index) path(s *Session, head common.Hash, t Time) ([]Call, error) {
	var path []Call
	for h := head; !s.Holds(h); {
		if s.Refused(h) {
			return nil, &BlockedError{Hash: h}
		}
		c, ok := x.Block(h, t)
		// Numbers that do not descend by one are no chain; without this check they could be a circle.
		if ok && len(path) > 0 && c.Payload.Number+1 != path[len(path)-1].Payload.Number {
			ok = false
		}
		if !ok {
			return nil, x.gap(s, h, path)
		}
		path = append(path, c)
		h = c.Payload.Parent
	}
	slices.Reverse(path)
	return path, nil
}

// Blocked is the block on the way to head that the client refused, if there is one.
func (x *Index) Blocked(s *Session, head common.Hash, t Time) (common.Hash, bool) {
	_, err := x.path(s, head, t)
	if blocked := (*BlockedError)(nil); errors.As(err, &blocked) {
		return blocked.Hash, true
	}
	return common.Hash{}, false
}

func (x *Index) gap(s *Session, missing common.Hash, path []Call) *Gap {
	g := &Gap{From: s.Number + 1, Parent: missing}
	if len(path) > 0 && path[len(path)-1].Payload.Number > 0 {
		g.To = path[len(path)-1].Payload.Number - 1
	}
	return g
}

// steps puts the path's payloads and the forkchoices between them in a row.
func (x *Index) steps(s *Session, path []Call, target Call, every int, t Time) []Step {
	if len(path) == 0 {
		return make([]Step, 0, 1)
	}
	steps := make([]Step, 0, len(path)+len(path)/max(every, 1)+2)
	since, low := s.depth(path[0].Payload.Parent), s.Floor
	for _, c := range path {
		if since >= every {
			cp := Step{Kind: Checkpoint, Call: target, Head: c.Payload.Parent, Number: c.Payload.Number - 1}
			if named, ok := x.naming(cp.Head, low, target.ID, t); ok {
				cp.Call, low = named, named.ID
			}
			steps, since = append(steps, cp), 0
		}
		steps = append(steps, Step{Kind: Payload, Call: c, Head: c.Payload.Hash, Number: c.Payload.Number})
		since++
	}
	return steps
}

func (x *Index) forkchoice(s *Session, c Call) Step {
	step := Step{Kind: Forkchoice, Call: c, Head: c.Forkchoice.Head}
	if step.Head == s.Head {
		step.Number = s.Number
	}
	if b := x.blocks[step.Head]; len(b) > 0 {
		step.Number = b[0].Payload.Number
	}
	return step
}
