package signers

import "errors"

// Errors of New.
var (
	// ErrSecret: the shared secret can't be used; the text says why, never the secret.
	ErrSecret = errors.New("signer cache secret")
	// ErrConfig: a setting is out of range.
	ErrConfig = errors.New("signer cache configuration")
)

// What makes a received batch useless; each is one value of the batch counter's label.
var (
	errVersion   = errors.New("unknown version")
	errMalformed = errors.New("malformed batch")
	errMAC       = errors.New("wrong authentication code")
)
