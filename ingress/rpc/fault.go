package rpc

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"millrace/internal/jsonrpc"
	"millrace/internal/rpcapi"
)

// fault is an error as clients see it. What the two dialects make of it is in the table of the contract, §5.1.
type fault struct {
	reason rpcapi.Reason
	text   string
	retry  int // Retry-After in seconds; 0: none
	// prio is the status of the text in the prio dialect.
	prio int
	// code is the JSON-RPC error's, mapped its HTTP status where those are wanted, or always when it is fixed.
	code, mapped int
	fixed        bool
}

// faultOf maps an error of a call. It never shows a wrapped error's text, which may name a node.
func faultOf(err error) fault {
	if r, ok := errors.AsType[*refusal](err); ok {
		return refusalFault(r)
	}
	reason := rpcapi.ReasonOf(err)
	f := fault{reason: reason, prio: http.StatusInternalServerError, code: jsonrpc.CodeInternal}
	switch reason {
	case rpcapi.ReasonQueueFull:
		f.text, f.code, f.mapped, f.retry = rpcapi.ErrQueueFull.Error(), codeLimit, http.StatusServiceUnavailable, 1
	case rpcapi.ReasonQueueTimeout:
		f.text, f.code, f.mapped = rpcapi.ErrQueueTimeout.Error(), codeTimeout, http.StatusGatewayTimeout
	case rpcapi.ReasonNodeTimeout:
		f.text, f.code, f.mapped = rpcapi.ErrNodeTimeout.Error(), codeTimeout, http.StatusGatewayTimeout
	case rpcapi.ReasonNoNode:
		f.text, f.mapped = rpcapi.ErrNoNode.Error(), http.StatusServiceUnavailable
	case rpcapi.ReasonUnreachable:
		f.text, f.mapped = rpcapi.ErrUnreachable.Error(), http.StatusBadGateway
	case rpcapi.ReasonFilter:
		f.text, f.code, f.mapped = rpcapi.ErrFilterNotFound.Error(), codeFilter, http.StatusOK
	case rpcapi.ReasonAnswer:
		f.text, f.code, f.mapped = rpcapi.ErrAnswerTooLarge.Error(), codeAnswer, http.StatusBadGateway
	case rpcapi.ReasonStopping:
		f.text, f.mapped, f.retry = rpcapi.ErrStopping.Error(), http.StatusServiceUnavailable, 1
	case rpcapi.ReasonNodeError:
		f.text, f.mapped = textInternal, http.StatusBadGateway
	case rpcapi.ReasonCanceled:
		f.text, f.mapped = "canceled", http.StatusServiceUnavailable // who would read it is gone
	default:
		f.reason, f.text, f.mapped = rpcapi.ReasonInternal, textInternal, http.StatusInternalServerError
	}
	return f
}

func refusalFault(r *refusal) fault {
	return fault{
		reason: r.reason, text: r.text, retry: r.retry, prio: r.status, code: r.code, mapped: r.status,
		fixed: r.reason == rpcapi.ReasonTooLarge,
	}
}

// status is the HTTP status of the JSON-RPC error.
func (f *fault) status(how HTTPStatus) int {
	if f.fixed || how == StatusMapped {
		return f.mapped
	}
	return http.StatusOK
}

// appendTo appends the JSON-RPC error; a nil id is null.
func (f *fault) appendTo(dst, id []byte) []byte {
	if id == nil {
		id = []byte("null")
	}
	dst = append(append(append(dst, `{"jsonrpc":"2.0","id":`...), id...), `,"error":{"code":`...)
	dst = append(strconv.AppendInt(dst, int64(f.code), 10), `,"message":`...)
	dst, _ = jsontext.AppendQuote(dst, f.text) // invalid UTF-8 becomes U+FFFD, its only error
	return append(append(append(dst, `,"data":{"reason":"`...), f.reason...), `"}}}`...)
}

// headers says why, and when to come again.
func (f *fault) headers(h http.Header) {
	h["X-Lb-Error"] = []string{string(f.reason)}
	if f.retry > 0 {
		h["Retry-After"] = []string{strconv.Itoa(f.retry)}
	}
}
