package order

import "errors"

// Errors of the signature header.
var (
	// ErrNoSignature: there is no header value at all.
	ErrNoSignature = errors.New("no signature provided")
	// ErrSignature: the header can't be read, or it was not made over this body by the address
	// that it names.
	ErrSignature = errors.New("invalid signature")
)
