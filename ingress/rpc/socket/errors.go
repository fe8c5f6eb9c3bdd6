package socket

import (
	"errors"

	"millrace/internal/jsonrpc"
	"millrace/internal/rpcapi"
)

// Codes beside those of JSON-RPC: axon-proxy's, and geth's for an error without a code of its own.
const (
	codeUnsupported = -32004
	codeLimit       = -32005
	codeOther       = -32000
)

var errNotFound = errors.New("subscription not found")

// rpcError is what a client is told.
func rpcError(err error) *jsonrpc.Error {
	switch {
	case errors.Is(err, rpcapi.ErrSubscriptionKind), errors.Is(err, rpcapi.ErrSubscriptionUnsupported):
		return &jsonrpc.Error{Code: jsonrpc.CodeMethodNotFound, Message: err.Error()}
	case errors.Is(err, rpcapi.ErrSubscriptionParams):
		return &jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: err.Error()}
	case errors.Is(err, rpcapi.ErrSubscriptionLimit):
		return &jsonrpc.Error{Code: codeLimit, Message: err.Error()}
	case errors.Is(err, errNotFound):
		return &jsonrpc.Error{Code: codeOther, Message: err.Error()}
	case errors.Is(err, rpcapi.ErrStopping):
		return &jsonrpc.Error{Code: jsonrpc.CodeInternal, Message: rpcapi.ErrStopping.Error()}
	}
	return &jsonrpc.Error{Code: jsonrpc.CodeInternal, Message: jsonrpc.MessageInternal}
}
