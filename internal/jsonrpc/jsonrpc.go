// Package jsonrpc is the JSON-RPC 2.0 envelope: ids, batches, codes. It reads views over the
// caller's bytes and never re-encodes them.
//
// # Errors
//
// Codes, messages and which fault loses its id are FlowProxy's, so that its clients see what they
// know: an envelope that can't be read is a parse error under a null id, another version than 2.0
// an invalid request. What exactly was wrong is in error.data.
//
// # Bounds
//
// A batch has a bounded count, nesting is bounded by 10,000 levels, and nothing is copied but the
// method's name.
package jsonrpc

import (
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Codes used by this module (JSON-RPC 2.0 and FlowProxy's usage of them).
const (
	CodeParse          = -32700
	CodeInvalidRequest = -32600
	CodeMethodNotFound = -32601
	CodeInvalidParams  = -32602
	CodeInternal       = -32603
)

// Messages that go with the codes.
const (
	MessageParse          = "Parse error"
	MessageInvalidRequest = "Invalid Request"
	MessageMethodNotFound = "Method not found" // ": " and the method follow
	MessageInvalidParams  = "Invalid params"
	MessageInternal       = "Internal error"
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
func (e *Error) Error() string {
	if e.Data == "" {
		return e.Message
	}
	return e.Message + ": " + e.Data
}

// maxEchoed bounds how much of a method's name an answer repeats, bytes.
const maxEchoed = 64

// MethodNotFound answers a method that nothing serves; of a long name only the beginning is
// repeated.
func MethodNotFound(method string) *Error {
	if len(method) > maxEchoed {
		method = strings.ToValidUTF8(method[:maxEchoed], "") + "…"
	}
	return &Error{Code: CodeMethodNotFound, Message: MessageMethodNotFound + ": " + method}
}

// Call is one element of a parsed body: a request, or the error that must answer it, under a null
// id.
type Call struct {
	Request Request
	Err     *Error
}

// AppendResult appends a response with a raw JSON result; a nil id is null.
func AppendResult(dst, id, result []byte) []byte {
	dst = appendHead(dst, id)
	dst = append(dst, `"result":`...)
	return append(append(dst, result...), '}')
}

// AppendError appends an error response; a nil id is null.
func AppendError(dst, id []byte, e *Error) []byte {
	dst = appendHead(dst, id)
	dst = append(dst, `"error":{"code":`...)
	dst = strconv.AppendInt(dst, int64(e.Code), 10)
	dst = append(dst, `,"message":`...)
	dst = appendString(dst, e.Message)
	if e.Data != "" {
		dst = append(dst, `,"data":`...)
		dst = appendString(dst, e.Data)
	}
	return append(dst, `}}`...)
}

func appendHead(dst, id []byte) []byte {
	if id == nil {
		id = []byte("null")
	}
	dst = append(dst, `{"id":`...)
	dst = append(dst, id...)
	return append(dst, `,"jsonrpc":"2.0",`...)
}

// appendString quotes s. Invalid UTF-8 becomes U+FFFD, which is the only error that quoting has.
func appendString(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, s)
	return dst
}
