package rpcapi

import (
	"context"
	"errors"
)

// Why a call was not answered by a node. The texts are prio-load-balancer's where it has one, without its nodes'
// addresses.
var (
	// ErrQueueFull: the cap of the call's class is reached.
	ErrQueueFull = errors.New("queue full")
	// ErrQueueTimeout: it waited in the queue for as long as a call may.
	ErrQueueTimeout = errors.New("request timeout hit before processing")
	// ErrNodeTimeout: no place came free in time, or no node answered in time.
	ErrNodeTimeout = errors.New("node timeout")
	// ErrNoNode: there are no nodes, or none that may be used.
	ErrNoNode = errors.New("no nodes available")
	// ErrUnreachable: every node that was tried failed to take the call or to answer it.
	ErrUnreachable = errors.New("proxying request failed")
	// ErrFilterNotFound: the node that has the filter is gone.
	ErrFilterNotFound = errors.New("filter id not found")
	// ErrAnswerTooLarge: a node's answer exceeds gateway.max_answer.
	ErrAnswerTooLarge = errors.New("response too large")
	// ErrStopping: the gateway does not take calls any more.
	ErrStopping = errors.New("shutting down")
)

// NodeError is what the last node said that was asked, with a status of 400 or more.
type NodeError struct {
	Status int
	Body   []byte
	Node   *Node
	Tries  int
}

func (e *NodeError) Error() string { return "the node answered with an error status" }

// TriedError is one of the errors above after nodes had been asked: errors.Is finds which.
type TriedError struct {
	Err   error
	Tries int // how many nodes were asked
}

func (e *TriedError) Error() string { return e.Err.Error() }

// Unwrap is what went wrong.
func (e *TriedError) Unwrap() error { return e.Err }

// Tried is err with how many nodes were asked; with none of them it is err alone.
func Tried(err error, tries int) error {
	if tries == 0 {
		return err
	}
	return &TriedError{Err: err, Tries: tries}
}

// TriesOf is how many nodes had been asked when a call failed, as far as err says.
func TriesOf(err error) int {
	if e, ok := errors.AsType[*NodeError](err); ok {
		return e.Tries
	}
	if e, ok := errors.AsType[*TriedError](err); ok {
		return e.Tries
	}
	return 0
}

// Reason is why a call failed, for metrics, logs and X-LB-Error.
type Reason string

// Reasons.
const (
	ReasonRateLimited   Reason = "rate_limited"
	ReasonQueueFull     Reason = "queue_full"
	ReasonQueueTimeout  Reason = "queue_timeout"
	ReasonNodeTimeout   Reason = "node_timeout"
	ReasonNoNode        Reason = "no_node"
	ReasonUnreachable   Reason = "node_unreachable"
	ReasonNodeError     Reason = "node_error"
	ReasonTooLarge      Reason = "too_large"
	ReasonBatchTooLarge Reason = "batch_too_large"
	ReasonMethodDenied  Reason = "method_denied"
	ReasonFilter        Reason = "filter_not_found"
	ReasonAnswer        Reason = "response_too_large"
	ReasonCanceled      Reason = "canceled"
	ReasonStopping      Reason = "stopping"
	ReasonInvalid       Reason = "invalid_request"
	ReasonInternal      Reason = "internal"
)

// ReasonOf maps an error of a call to its reason.
func ReasonOf(err error) Reason {
	if _, ok := errors.AsType[*NodeError](err); ok {
		return ReasonNodeError
	}
	for _, k := range []struct {
		err    error
		reason Reason
	}{
		{ErrQueueFull, ReasonQueueFull},
		{ErrQueueTimeout, ReasonQueueTimeout},
		{ErrNodeTimeout, ReasonNodeTimeout},
		{ErrNoNode, ReasonNoNode},
		{ErrUnreachable, ReasonUnreachable},
		{ErrFilterNotFound, ReasonFilter},
		{ErrAnswerTooLarge, ReasonAnswer},
		{ErrStopping, ReasonStopping},
		{context.Canceled, ReasonCanceled},
	} {
		if errors.Is(err, k.err) {
			return k.reason
		}
	}
	return ReasonInternal
}
