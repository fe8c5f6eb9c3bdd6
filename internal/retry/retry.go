// Package retry holds the verdict "not now" as an error: the callee knows whether and when trying
// again makes sense, the caller's queue decides nothing (the habit of Prometheus' remote write). It also
// has the pauses between tries.
package retry

import (
	"errors"
	"time"
)

// Error wraps a failure that may succeed later.
type Error struct {
	err error
	// Delay is how long to wait at least; zero leaves it to the caller's backoff.
	Delay time.Duration
}

// After marks err as retryable after d. A nil err stays nil.
func After(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return &Error{err: err, Delay: d}
}

// Error is the wrapped error's text.
func (e *Error) Error() string { return e.err.Error() }

// Unwrap returns the wrapped error.
func (e *Error) Unwrap() error { return e.err }

// Delay returns how long err asks to wait; ok is false when err does not say that it may be
// retried.
func Delay(err error) (d time.Duration, ok bool) {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Delay, true
	}
	return 0, false
}
