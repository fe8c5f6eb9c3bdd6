package engineapi

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"

	"github.com/ethereum/go-ethereum/common"
)

// Status is a payload status as the client wrote it.
type Status string

// The statuses of today; any other is Undetermined.
const (
	StatusValid            Status = "VALID"
	StatusInvalid          Status = "INVALID"
	StatusSyncing          Status = "SYNCING"
	StatusAccepted         Status = "ACCEPTED"
	StatusInvalidBlockHash Status = "INVALID_BLOCK_HASH"
	StatusMissing          Status = "MISSING_STATE"
)

// Verdict is what a status says about the block.
type Verdict uint8

// The verdicts.
const (
	Valid        Verdict = iota + 1
	Invalid              // INVALID and its older spelling INVALID_BLOCK_HASH
	Undetermined         // everything else
)

var verdictNames = [...]string{"", "valid", "invalid", "undetermined"}

// String is the verdict as a metric label.
func (v Verdict) String() string {
	if v == 0 || int(v) >= len(verdictNames) {
		return fmt.Sprintf("unknown_%d", uint8(v))
	}
	return verdictNames[v]
}

// Verdict is what the status says about the block.
func (s Status) Verdict() Verdict {
	switch s {
	case StatusValid:
		return Valid
	case StatusInvalid, StatusInvalidBlockHash:
		return Invalid
	default:
		return Undetermined
	}
}

// JSON-RPC error codes of the Engine API.
const (
	CodeServer            = -32000
	CodeParse             = -32700
	CodeInvalidRequest    = -32600
	CodeMethodNotFound    = -32601
	CodeInvalidParams     = -32602
	CodeInternal          = -32603
	CodeUnknownPayload    = -38001
	CodeInvalidForkchoice = -38002
	CodeInvalidAttributes = -38003
	CodeTooLarge          = -38004
	CodeUnsupportedFork   = -38005
	CodeTooDeepReorg      = -38006
)

// What is kept of an answer's texts, bytes. The specification's payload ids have 18.
const (
	maxMessage   = 512
	maxPayloadID = 64
	maxStatus    = 64
)

// Result is a client's answer to one call, as far as comparing and replaying need it.
type Result struct {
	HTTPStatus  int
	Status      Status       // of newPayload and forkchoiceUpdated, else empty
	Code        int          // JSON-RPC error code, 0 without an error
	Message     string       // of the error, or the first 512 bytes of a body that is no JSON-RPC answer
	Validation  string       // validationError; its text differs from call to call
	LatestValid *common.Hash // latestValidHash
	PayloadID   string       // of forkchoiceUpdated with attributes
	// InclusionList is inclusionListSatisfied, nil when absent or null.
	InclusionList *bool
	// Malformed says that the body is no JSON-RPC answer, which is always so for HTTP faults.
	Malformed bool
}

// Verdict is what the answer says about the block; of an error or a malformed answer nothing.
func (r Result) Verdict() Verdict { return r.Status.Verdict() }

// OK says that the client answered the call and not with an error.
func (r Result) OK() bool { return r.HTTPStatus == http.StatusOK && r.Code == 0 && !r.Malformed }

// ParseResult reads the answer to one call. It never fails: what can't be read is Malformed, and
// Undetermined.
func ParseResult(httpStatus int, body []byte) Result {
	r := Result{HTTPStatus: httpStatus}
	var result, fault []byte
	w := walkOver(body, '{')
	for w.next() {
		switch string(w.key) {
		case `"result"`:
			result = w.value
		case `"error"`:
			fault = w.value
		}
	}
	switch {
	case w.bad || len(w.rest()) > 0 || result == nil && isNull(fault):
		r.Malformed = true
		r.Message = text(body, maxMessage)
	case !isNull(fault):
		r.fault(fault)
	default:
		r.result(result)
	}
	return r
}

// fault reads an error object. Without a code of its own it counts as an internal error, so that it
// is never taken for success.
func (r *Result) fault(object []byte) {
	r.Code = CodeInternal
	w := walkOver(object, '{')
	for w.next() {
		switch string(w.key) {
		case `"code"`:
			if n, err := strconv.Atoi(string(w.value)); err == nil && n != 0 {
				r.Code = n
			}
		case `"message"`:
			if s, ok := unquote(w.value); ok {
				r.Message = text(s, maxMessage)
			}
		}
	}
}

// result reads a payload status, or a forkchoice answer around one.
func (r *Result) result(object []byte) {
	if object[0] != '{' {
		return
	}
	w := walkOver(object, '{')
	for w.next() {
		switch string(w.key) {
		case `"payloadStatus"`:
			inner := walkOver(w.value, '{')
			for inner.next() {
				r.status(inner.key, inner.value)
			}
		case `"payloadId"`:
			if id, ok := unquote(w.value); ok && len(id) <= maxPayloadID {
				r.PayloadID = string(id)
			}
		default:
			r.status(w.key, w.value)
		}
	}
}

func (r *Result) status(key, value []byte) {
	switch string(key) {
	case `"status"`:
		if s, ok := unquote(value); ok {
			r.Status = statusOf(s)
		}
	case `"latestValidHash"`:
		var h common.Hash
		if readHash(value, &h) {
			r.LatestValid = &h
		}
	case `"validationError"`:
		if s, ok := unquote(value); ok {
			r.Validation = text(s, maxMessage)
		}
	case `"inclusionListSatisfied"`:
		if yes := string(value) == "true"; yes || string(value) == "false" {
			r.InclusionList = &yes
		}
	}
}

// statusOf makes a status without an allocation for those of today.
func statusOf(s []byte) Status {
	switch string(s) {
	case string(StatusValid):
		return StatusValid
	case string(StatusSyncing):
		return StatusSyncing
	case string(StatusInvalid):
		return StatusInvalid
	}
	return Status(text(s, maxStatus))
}

// text is at most limit bytes of b as valid UTF-8.
func text(b []byte, limit int) string {
	if len(b) > limit {
		b = b[:limit]
	}
	return string(bytes.ToValidUTF8(b, nil))
}

// BlockResult reads the answer to eth_getBlockByNumber or eth_getBlockByHash; not ok when the block
// is unknown or the answer is none.
func BlockResult(body []byte) (number uint64, hash common.Hash, ok bool) {
	ok = fields(ResultOf(body), []field{
		{"number", quantityInto(&number), false},
		{"hash", hashInto(&hash), false},
	})
	if !ok {
		return 0, common.Hash{}, false
	}
	return number, hash, true
}

// ResultOf is the raw result of an answer, nil for an error, for null and for what is no answer.
func ResultOf(body []byte) []byte {
	var result []byte
	w := walkOver(body, '{')
	for w.next() {
		if string(w.key) == `"result"` {
			result = w.value
		}
	}
	if w.bad || len(w.rest()) > 0 || isNull(result) {
		return nil
	}
	return result
}
