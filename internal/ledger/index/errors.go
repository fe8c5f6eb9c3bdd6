package index

import "errors"

// Errors of the package.
var (
	// ErrQuery: the text is no name of an order.
	ErrQuery = errors.New("not a hash (64 hex digits), an accept id (32 hex digits) or a UUID")
	// ErrClosed: the index is not open (yet, or any more), or another process has it.
	ErrClosed = errors.New("trace index is not open")
	// ErrEntry: an entry can't be read.
	ErrEntry = errors.New("bad trace entry")
)
