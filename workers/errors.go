package workers

import "errors"

var (
	// ErrConfig: a setting is out of range or a collaborator is missing.
	ErrConfig = errors.New("worker configuration")
	// ErrPanic: validating an order panicked; it comes back and is treated as a suspect.
	ErrPanic = errors.New("validation panicked")
)
