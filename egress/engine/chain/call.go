package chain

import (
	"net/http"
	"time"

	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
)

// Call is one recorded call without its body.
type Call struct {
	// At is the request's position in the log, from where its body is read again.
	At uint64
	// ID is its place in the order of dispatch to the primary.
	ID       record.ID
	Class    engineapi.Class
	Method   string
	Received time.Time
	// Verified: the token was verified by the door, not only passed on.
	Verified bool
	// Forkchoice and Payload are set by class; a call of those classes that could not be read is not
	// in the index.
	Forkchoice engineapi.Forkchoice
	Payload    engineapi.Payload
	// Answer is the primary's outcome, nil while none is recorded.
	Answer *record.Outcome
}

// Standing is whether a call may be replayed.
type Standing uint8

// The standings.
const (
	// Undecided: the outcome may still be recorded.
	Undecided Standing = iota + 1
	// Eligible: the call may be replayed.
	Eligible
	// Refused: nobody vouched for the call's token, so it must never reach another client.
	Refused
)

// Time is the moment of a judgement, and how long an outcome is waited for.
type Time struct {
	Now time.Time
	// Unknown is the age at which a call without an outcome is given up as unknown.
	Unknown time.Duration
	// Vouched is that age for a call whose token was verified: it is eligible whatever the outcome,
	// which is only waited for to compare it.
	Vouched time.Duration
}

// standing judges c. A token that was not verified here is vouched for by the primary alone, with
// HTTP 200; its other answers, and none, are no permission.
func (c *Call) standing(t Time, newest uint64) Standing {
	switch {
	case c.Answer != nil && (c.Verified || c.Answer.HTTPStatus == http.StatusOK):
		return Eligible
	case c.Answer != nil:
		return Refused
	}
	age := t.Now.Sub(c.Received)
	if c.Verified && (age >= t.Vouched || c.ID.Epoch < newest) {
		return Eligible
	}
	if age < t.Unknown && c.ID.Epoch >= newest {
		return Undecided
	}
	return Refused
}

// refusedByPrimary says whether the primary answered and did not take the call: then its head did
// not move, and the consensus client will say where to go instead. Faulty attributes are another
// matter: the forkchoice beside them counts.
func (c *Call) refusedByPrimary() bool {
	if c.Answer == nil || c.Answer.HTTPStatus != http.StatusOK {
		return false
	}
	if code := c.Answer.Result.Code; code != 0 {
		attributes := code == engineapi.CodeInvalidAttributes || code == engineapi.CodeUnsupportedFork
		return !c.Forkchoice.Attributes || !attributes
	}
	return c.Answer.Result.Status.Verdict() == engineapi.Invalid
}

// rejectedByPrimary says whether the primary answered with an error.
func (c *Call) rejectedByPrimary() bool {
	return c.Answer != nil && c.Answer.HTTPStatus == http.StatusOK && c.Answer.Result.Code != 0
}

// Due is when a call without an outcome is judged anew.
func (c *Call) Due(t Time) time.Time {
	if c.Verified {
		return c.Received.Add(min(t.Vouched, t.Unknown))
	}
	return c.Received.Add(t.Unknown)
}

// Unanswered says whether the primary failed to answer the call.
func (c *Call) Unanswered() bool {
	return c.Answer != nil && (c.Answer.Unknown != "" || c.Answer.HTTPStatus == 0 ||
		c.Answer.HTTPStatus >= http.StatusInternalServerError)
}
