package enginelog

import "errors"

// Errors of this package.
var (
	// ErrLocked: another process spools in the same directory.
	ErrLocked = errors.New("spool is in use by another process")
	// ErrName: an execution client's name can't be part of a subject.
	ErrName = errors.New("not a name")
	// ErrNoLog: the bus keeps no record of the Engine API (record.engine.max_bytes is 0, or nothing was
	// applied yet).
	ErrNoLog = errors.New("no record of the Engine API is kept")
	// ErrStalled: the store took nothing while its taking something was waited for.
	ErrStalled = errors.New("the store of the Engine API record takes nothing")
	// ErrOtherLife: what is followed was read further than it reaches: the stream was made anew.
	ErrOtherLife = errors.New("the record of the Engine API begins anew")
)

// Faults of spool frames.
var (
	errFrame    = errors.New("spool frame is damaged")
	errTorn     = errors.New("spool frame is torn")
	errTooLarge = errors.New("record exceeds what the spool may hold")
)
