// Package record is what is kept of the consensus client's calls: a Request when a call is
// dispatched and an Outcome when it ended, joined by their ID, and the bytes that carry both through
// a stream and a spool.
//
// # Form
//
// A record is one self-contained frame: version, kind, flags, tagged fields, then the request's own
// bytes, compressed by S2 from 1 kB on when that makes them smaller. Tags that a reader does not
// know are passed over, so an older reader reads a newer record. Nothing assumes that a request's
// bytes are JSON.
//
// # Secrets
//
// A record has no headers of the call. Tokens are never part of it.
package record

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"millrace/internal/engineapi"
)

// ErrRecord is returned for bytes that hold no record.
var ErrRecord = errors.New("bad engine record")

// ID names a call: the epoch of the door that dispatched it and its number there, in the order of
// dispatch. Both start at one.
type ID struct{ Epoch, Sequence uint64 }

// String is <epoch>.<sequence>.
func (id ID) String() string {
	return strconv.FormatUint(id.Epoch, 10) + "." + strconv.FormatUint(id.Sequence, 10)
}

// ParseID reads what String wrote.
func ParseID(s string) (ID, error) {
	epoch, sequence, _ := strings.Cut(s, ".")
	e, err1 := strconv.ParseUint(epoch, 10, 64)
	n, err2 := strconv.ParseUint(sequence, 10, 64)
	if err1 != nil || err2 != nil {
		return ID{}, fmt.Errorf("record id %.64q: %w", s, ErrRecord)
	}
	return ID{Epoch: e, Sequence: n}, nil
}

// Compare orders ids by dispatch: negative when id was dispatched before o.
func (id ID) Compare(o ID) int {
	switch {
	case id == o:
		return 0
	case id.Epoch < o.Epoch || id.Epoch == o.Epoch && id.Sequence < o.Sequence:
		return -1
	}
	return 1
}

// Request is one call as it was dispatched. A batch is one Request per element.
type Request struct {
	ID
	Received time.Time // on the bus clock, to the nanosecond
	Method   string
	Class    engineapi.Class
	Batch    uint64 // the Sequence of the batch's first element, 0 for a call of its own
	// Forkchoice and Payload are views of the calls that have one, nil otherwise and when the
	// parameters could not be read.
	Forkchoice *engineapi.Forkchoice
	Payload    *engineapi.Payload
	Verified   bool   // the caller's token was verified here
	Raw        []byte // the element's own bytes
	// OmittedSize is how many bytes were left out when Raw is empty on purpose.
	OmittedSize int64
}

// Outcome is how a call ended.
type Outcome struct {
	ID
	Method     string
	HTTPStatus int // 0 without an answer
	Result     engineapi.Result
	Duration   time.Duration // from dispatch to the answer's last byte
	Size       int64         // of the answer's body, bytes
	SHA256     [32]byte      // of the answer's body; of an element of a batch, of that element
	// Eligible says that the call may be replayed: the primary answered HTTP 200 to it.
	Eligible bool
	Built    *Built // of getPayload alone
	Unknown  string // why there was no answer; empty when there was one
}

// Entry is a record as the stream holds it. Exactly one of Request and Outcome is set.
type Entry struct {
	Stream  uint64    // sequence in the stream ENGINE
	Stored  time.Time // there
	Request *Request
	Outcome *Outcome
}

// ID is the call that the entry belongs to; zero for an empty entry.
func (e Entry) ID() ID {
	switch {
	case e.Request != nil:
		return e.Request.ID
	case e.Outcome != nil:
		return e.Outcome.ID
	}
	return ID{}
}

// Call is the request as a view over Raw; without a method if Raw holds no single call.
func (r *Request) Call() engineapi.Call {
	calls, batch, err := engineapi.ParseCalls(r.Raw)
	if err != nil || batch {
		return engineapi.Call{Raw: r.Raw}
	}
	return calls[0]
}

// maxMethod is where a name is cut: no method's is as long, and it is kept beside the call's bytes.
const maxMethod = 128

// NewRequest describes a call that is about to be dispatched. It keeps c's bytes: they must not
// change any more.
func NewRequest(id ID, received time.Time, c engineapi.Call) *Request {
	r := &Request{ID: id, Received: received, Method: c.Method[:min(len(c.Method), maxMethod)], Class: c.Class(), Raw: c.Raw}
	switch r.Class {
	case engineapi.ClassForkchoice:
		if f, err := c.Forkchoice(); err == nil {
			r.Forkchoice = &f
		}
	case engineapi.ClassReplay:
		if p, err := c.Payload(); err == nil {
			r.Payload = &p
		}
	default: // the others have no view
	}
	return r
}
