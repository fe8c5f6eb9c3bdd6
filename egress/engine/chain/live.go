package chain

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/engineapi"
)

// Reason is why a call is not sent to a client that follows.
type Reason uint8

// The reasons.
const (
	// Duplicate: the client has the block.
	Duplicate Reason = iota + 1
	// Superseded: another forkchoice follows with no payload between the two.
	Superseded
	// Stale: a newer forkchoice was sent, or the head lies below the client's and the consensus client
	// went on since.
	Stale
	// Unconnected: the record does not connect the block with what the client has.
	Unconnected
	// Rejected: the client, or the primary, refused the block or one below it.
	Rejected
	// NotEligible: nobody vouched for the call's token.
	NotEligible
	// Ignored: the method is not for this client.
	Ignored
	// Collapsed: catching up left it out.
	Collapsed
)

// Reasons lists every reason.
func Reasons() []Reason {
	return []Reason{Duplicate, Superseded, Stale, Unconnected, Rejected, NotEligible, Ignored, Collapsed}
}

var reasonNames = [...]string{
	"", "duplicate", "superseded", "stale", "unconnected", "rejected", "not_eligible", "ignored", "collapsed",
}

// String is the reason as a metric label.
func (r Reason) String() string {
	if int(r) >= len(reasonNames) {
		return fmt.Sprintf("unknown_%d", uint8(r))
	}
	return reasonNames[r]
}

// Live decides on the next call of a client that follows: the steps to take, of which the last sends
// the call itself, or why it is left out. Blocks that the client lacks come first. The error, of a
// forkchoice alone, is a *Gap when its head can't be reached: then the client has to be asked for its
// head again; or a *BlockedError when the client refused a block on the way.
func (x *Index) Live(s *Session, c Call, every int, t Time) ([]Step, Reason, error) {
	switch c.Class {
	case engineapi.ClassReplay:
		return x.livePayload(s, c, every, t)
	case engineapi.ClassForkchoice:
		return x.liveForkchoice(s, c, every, t)
	default:
		return nil, Ignored, nil
	}
}

func (x *Index) livePayload(s *Session, c Call, every int, t Time) ([]Step, Reason, error) {
	if s.Holds(c.Payload.Hash) {
		return nil, Duplicate, nil
	}
	if s.Refused(c.Payload.Hash) || s.Refused(c.Payload.Parent) {
		return nil, Rejected, nil
	}
	path, err := x.path(s, c.Payload.Parent, t)
	if err != nil {
		return nil, reasonOf(err), nil
	}
	if len(path) > 0 && path[len(path)-1].Payload.Number+1 != c.Payload.Number {
		return nil, Unconnected, nil
	}
	return x.steps(s, append(path, c), x.form(c), every, t), 0, nil
}

// form is what a checkpoint before the payload c takes its method and number of parameters from: the
// last forkchoice, since a payload names none, or the one that goes with the payload's version.
func (x *Index) form(c Call) Call {
	f := Call{Class: engineapi.ClassForkchoice, Method: formMethod(engineapi.Version(c.Method))}
	if n := len(x.forkchoices); n > 0 {
		f = *x.forkchoices[n-1]
	}
	f.ID, f.Forkchoice.Head = c.ID, common.Hash{}
	return f
}

// formMethod is the forkchoice method of the fork in which a version of newPayload came.
func formMethod(version int) string {
	if version > 3 {
		version-- // Prague brought a payload of its own and no forkchoice
	}
	return "engine_forkchoiceUpdatedV" + strconv.Itoa(max(version, 1))
}

func (x *Index) liveForkchoice(s *Session, c Call, every int, t Time) ([]Step, Reason, error) {
	head := c.Forkchoice.Head
	switch {
	case c.ID.Compare(s.Floor) <= 0:
		return nil, Stale, nil
	case x.superseded(&c, t) && (!s.Shadow || !c.Forkchoice.Attributes):
		return nil, Superseded, nil
	case c.refusedByPrimary():
		return nil, Rejected, nil
	case x.Below(head, s, t) && !x.isTarget(c, t):
		return nil, Stale, nil
	}
	steps, err := x.Plan(s, c, every, t)
	return steps, 0, err
}

func reasonOf(err error) Reason {
	if blocked := (*BlockedError)(nil); errors.As(err, &blocked) {
		return Rejected
	}
	return Unconnected
}

// Below says whether h is an ancestor of the client's head, as far as the record knows.
func (x *Index) Below(h common.Hash, s *Session, t Time) bool {
	target, ok := x.Block(h, t)
	if !ok || target.Payload.Number >= s.Number {
		return false
	}
	at := s.Head
	for range min(s.Number-target.Payload.Number, uint64(len(x.calls))) {
		c, ok := x.Block(at, t)
		if !ok {
			return false
		}
		at = c.Payload.Parent
	}
	return at == h
}

func (x *Index) isTarget(c Call, t Time) bool {
	target, ok := x.Target(t)
	return ok && target.ID == c.ID
}
