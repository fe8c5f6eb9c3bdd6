package upkeep

import (
	"errors"

	"millrace/internal/bus/embedded"
)

var (
	// ErrStoreFailed ends Guard.Run: the server could not write and has frozen a stream for good.
	// The process must exit and be started again; what was acknowledged is still there then.
	ErrStoreFailed = embedded.ErrStoreFailed
	// ErrSkew is returned by Clock.Ready when this machine's clock is off by more than MaxSkew.
	ErrSkew = errors.New("clock skew against the bus is too large")
	// ErrNoClock is returned by Clock.Ready before the first measurement.
	ErrNoClock = errors.New("clock offset against the bus is not known yet")
)
