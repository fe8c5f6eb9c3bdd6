package ingress

import "errors"

// Errors of constructing and reconfiguring the door.
var (
	// ErrConfig wraps every fault that Config.Validate finds.
	ErrConfig = errors.New("invalid ingress configuration")
	// ErrPort means that a required port is nil.
	ErrPort = errors.New("missing ingress port")
	// ErrNeedsRestart is returned by Reload, with the keys' names, when some changed keys only
	// take effect after a restart. Everything else of the new configuration is in force.
	ErrNeedsRestart = errors.New("restart needed for changed keys")
	// ErrRunning means that Run was called twice.
	ErrRunning = errors.New("ingress is already running")
)

// errDraining is why a door that shuts down is not ready.
var errDraining = errors.New("shutting down")
