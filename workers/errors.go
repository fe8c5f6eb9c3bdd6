package workers

import "errors"

var (
	// ErrConfig means that a setting is out of range or a collaborator is missing.
	ErrConfig = errors.New("worker configuration")
	// ErrPanic means that validating an order panicked; it comes back and is treated as a suspect.
	ErrPanic = errors.New("validation panicked")
)
