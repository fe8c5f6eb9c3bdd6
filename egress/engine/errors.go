package engine

import "errors"

// Errors of the ports, and of a Runner's preconditions.
var (
	// ErrOvertaken is returned by the primary's Caller when a live call was dispatched since Decide: the
	// step must not be sent any more.
	ErrOvertaken = errors.New("overtaken by a live call")
	// ErrNoToken is returned by a Caller that has no token at the moment: a client without a secret of
	// its own is called with the consensus client's token, while there is a fresh one.
	ErrNoToken = errors.New("no token for the client at the moment")
	// ErrGone says that the log does not hold an entry any more.
	ErrGone = errors.New("the entry left the record")
	// ErrAnswerTooLarge is returned for an answer above the limit.
	ErrAnswerTooLarge = errors.New("answer too large")

	// ErrEmptyRange is returned when the range has no forkchoice that may be replayed.
	ErrEmptyRange = errors.New("the range has no eligible forkchoice")
	// ErrWrongChain is returned when a client is of another chain than the record.
	ErrWrongChain = errors.New("the client is on another chain")
	// ErrBase is returned when a client's head is not on the recorded path.
	ErrBase = errors.New("the client's head is not on the recorded path")
	// ErrForeignWriter is returned when a client's head moves without us.
	ErrForeignWriter = errors.New("the client's head moves: another consensus client drives it")
	// ErrStopped is returned when a client could not be brought to the end of the range.
	ErrStopped = errors.New("the replay stopped early")
)
