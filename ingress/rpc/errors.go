package rpc

import (
	"errors"
	"fmt"
	"time"

	"millrace/internal/jsonrpc"
	"millrace/internal/rpcapi"
)

// Errors of New, Run and Reload.
var (
	ErrConfig       = errors.New("invalid rpc door configuration")
	ErrPort         = errors.New("a required port is missing")
	ErrRunning      = errors.New("the rpc door has run before")
	ErrNeedsRestart = errors.New("takes effect after a restart")
)

var (
	errClosed   = errors.New("the rpc door is not listening yet")
	errDraining = errors.New("the rpc door is draining")
)

// refusal is an error of the door itself.
type refusal struct {
	reason rpcapi.Reason
	code   int
	text   string
	status int // with Config.HTTPStatus mapped, and in the prio dialect
	retry  int // seconds; 0: does not help
}

func (r *refusal) Error() string { return r.text }

// Codes beyond JSON-RPC's own: axon-proxy's, geth's and the one that proxies have for timeouts.
const (
	codeFilter       = -32001
	codeAnswer       = -32003
	codeSubscription = -32004
	codeLimit        = -32005
	codeTimeout      = -32015
)

// Texts that clients of the two proxies know.
const (
	textTooLargePrio = "Payload too large"
	textTooLarge     = "payload too large"
	textInvalid      = "Invalid request"
	textParse        = "Parse error"
	textInternal     = "Internal error"
	textBatch        = "batch too large"
	textOverHTTP     = "subscription over http is not supported"
	textInBatch      = "subscription in batch request is not supported"
)

func invalid(text string, code int) *refusal {
	return &refusal{reason: rpcapi.ReasonInvalid, code: code, text: text, status: 400}
}

// unread is an envelope that could not be read.
func unread(e *jsonrpc.Error) *refusal {
	if e.Code == jsonrpc.CodeParse {
		return invalid(textParse, jsonrpc.CodeParse)
	}
	return invalid(textInvalid, jsonrpc.CodeInvalidRequest)
}

func rateLimited(retry time.Duration) *refusal {
	seconds := max(int((retry+time.Second-1)/time.Second), 1)
	return &refusal{
		reason: rpcapi.ReasonRateLimited, code: codeLimit, status: 429, retry: seconds,
		text: fmt.Sprintf("rate limit exceeded, retry in %d seconds", seconds),
	}
}

// maxEchoed bounds how much of a method's name an answer repeats, bytes.
const maxEchoed = 64

func denied(method string) *refusal {
	if len(method) > maxEchoed {
		method = method[:maxEchoed] + "…"
	}
	return &refusal{reason: rpcapi.ReasonMethodDenied, code: jsonrpc.CodeMethodNotFound, text: "method not allowed: " + method, status: 200}
}
