// Package jsonrpc is the JSON-RPC 2.0 envelope: ids, batches, codes. It reads views over the
// caller's bytes and never re-encodes them.
package jsonrpc

// Codes used by this module (JSON-RPC 2.0 and FlowProxy's usage of them).
const (
	CodeParse          = -32700
	CodeInvalidRequest = -32600
	CodeMethodNotFound = -32601
	CodeInvalidParams  = -32602
	CodeInternal       = -32603
)

// Request is one call as a view over the body it was parsed from.
type Request struct {
	ID     []byte // raw JSON: a string, number or null
	Method string
	Params []byte // raw JSON, nil when absent
	Raw    []byte // the whole request object
}

// Error is a JSON-RPC error object.
type Error struct {
	Code    int
	Message string
	Data    string // sent as error.data when not empty
}

// Error is the message, with the data behind it.
func (e *Error) Error() string { return e.Message }

// Call is one element of a parsed body: a request, or the error that must answer it.
type Call struct {
	Request Request
	Err     *Error
}

// Parse reads a body as one request or a batch of at most maxBatch.
func Parse(body []byte, maxBatch int) (calls []Call, batch bool, err *Error) { return nil, false, nil }

// AppendResult appends a response with a raw JSON result.
func AppendResult(dst, id, result []byte) []byte { return dst }

// AppendError appends an error response; a nil id is null.
func AppendError(dst, id []byte, e *Error) []byte { return dst }
