package loadtest

import "errors"

// Errors of this package.
var (
	// ErrConfig: a scenario, corpus or sink that can't be run as configured.
	ErrConfig = errors.New("bad load test configuration")
	// ErrExhausted: a feed that has handed out all its orders.
	ErrExhausted = errors.New("no more orders")
	// ErrViolations: the run broke a promise; the report says which.
	ErrViolations = errors.New("promises broken")
	// errResponse: an answer that is not JSON-RPC.
	errResponse = errors.New("unreadable answer")
)
