package engineapi

import "errors"

// Errors of reading calls.
var (
	// ErrBody is returned for a body that holds neither a request object nor a batch.
	ErrBody = errors.New("no JSON-RPC request")
	// ErrBatchTooLong is returned for a batch of more than MaxBatch calls.
	ErrBatchTooLong = errors.New("batch too long")
	// ErrParams is returned when a call's parameters are not what its method takes.
	ErrParams = errors.New("unreadable parameters")
	// ErrSecret is returned for a secret that is not 32 bytes in hexadecimal.
	ErrSecret = errors.New("secret: expected 32 bytes in hexadecimal")
)

// Refusals of a token, in geth's words: a consensus client's operator looks these up. Other faults
// of a token have texts of their own.
var (
	ErrMissingToken     = errors.New("missing token")
	ErrInvalidSignature = errors.New("signature is invalid")
	ErrExpiredToken     = errors.New("token is expired")
	ErrMissingIssuedAt  = errors.New("missing issued-at")
	ErrStaleToken       = errors.New("stale token")
	ErrFutureToken      = errors.New("future token")

	errUnspecified = errors.New("signing method (alg) is unspecified.") //nolint:revive,staticcheck // geth's words
	errUnavailable = errors.New("signing method (alg) is unavailable.") //nolint:revive,staticcheck // geth's words
)
