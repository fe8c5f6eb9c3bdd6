package engine

import "errors"

// Errors of the door.
var (
	// ErrConfig wraps every fault that Config.Validate finds.
	ErrConfig = errors.New("invalid engine configuration")
	// ErrPort means that a required port is missing.
	ErrPort = errors.New("missing engine port")
	// ErrRunning means that Run was called twice.
	ErrRunning = errors.New("engine door is already running")
	// ErrOvertaken is returned by Replay when the consensus client's own calls came since the step
	// was decided, or that another client is the primary since: it was not sent, or cut off in flight.
	ErrOvertaken = errors.New("overtaken by a live call")
	// ErrOtherSecret is why a client is not made the primary where tokens are forwarded: it would refuse the
	// consensus client's.
	ErrOtherSecret = errors.New("the consensus client's tokens are forwarded and not known to be signed with this client's secret (engine.primary_jwt_secret would tell, engine.auth verify mints tokens of its own)")
	// ErrNoToken is returned by Replay when there is neither a secret for the primary nor a
	// live token.
	ErrNoToken = errors.New("no token for the primary")
)

// Why a call has no answer.
var (
	errStopped = errors.New("the door stopped")
	errClosed  = errors.New("the door is not open")
	errGateway = errors.New("what stands before it answers in its place")
)

// errExhausted refuses a body for want of memory, errBodyTooLarge for its size.
var (
	errExhausted    = errors.New("too many bytes in flight")
	errBodyTooLarge = errors.New("request body too large")
)
