package regions

import "errors"

// Errors of this package.
var (
	// ErrTopology: a topology that can't be emulated; the text names every fault.
	ErrTopology = errors.New("bad topology")
	// ErrScenario: a scenario that does not fit the topology; the text names every fault.
	ErrScenario = errors.New("bad scenario")
	// ErrNoLink: a pair of nodes without a link.
	ErrNoLink = errors.New("no such link")
)
