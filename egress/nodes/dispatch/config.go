package dispatch

import (
	"errors"
	"fmt"
	"time"

	"millrace/internal/rpcapi"
)

// Config is the policy of the queues, under gateway.queues.*.
type Config struct {
	// Max is how many calls of a class may wait; 0: any number.
	Max [rpcapi.Classes + 1]int
	// FastPerHigh is how many fast-track calls are served before a high one; with 0 high calls go first.
	FastPerHigh int
	// DrainFast serves all fast-track calls before any other.
	DrainFast bool
	// LowEvery serves one low call after so many others while low calls wait; 0: low calls only when no others wait.
	LowEvery int
	// Timeout is how long after it was received a call may wait; 0: 5s.
	Timeout time.Duration
	// DispatchTimeout is how long a call waits while no node can serve it; 0: 2s.
	DispatchTimeout time.Duration
	// Balance chooses among free nodes; 0: LeastOutstanding.
	Balance Balance
}

// Balance is a rule for choosing among free nodes.
type Balance uint8

// Rules.
const (
	// LeastOutstanding takes two nodes at random and of these the one with fewer places taken for its weight.
	LeastOutstanding Balance = iota + 1
	// ByClient gives a client the same node as long as that one is healthy and has a free place, and spreads clients
	// by weight (rendezvous hashing). Calls without a client go by LeastOutstanding.
	ByClient
)

// String is the rule as it is configured.
func (b Balance) String() string {
	switch b {
	case LeastOutstanding:
		return "least_outstanding"
	case ByClient:
		return "by_client"
	default:
		return fmt.Sprintf("balance(%d)", uint8(b))
	}
}

func (c Config) withDefaults() Config {
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.DispatchTimeout == 0 {
		c.DispatchTimeout = 2 * time.Second
	}
	if c.Balance == 0 {
		c.Balance = LeastOutstanding
	}
	return c
}

// Validate reports every fault of c, joined.
func (c Config) Validate() error {
	var errs []error
	for class := rpcapi.FastTrack; class <= rpcapi.Low; class++ {
		errs = append(errs, notNegative(class.String()+"_max", int64(c.Max[class])))
	}
	errs = append(errs, notNegative("fast_per_high", int64(c.FastPerHigh)), notNegative("low_every", int64(c.LowEvery)),
		notNegative("timeout", int64(c.Timeout)), notNegative("dispatch_timeout", int64(c.DispatchTimeout)))
	if c.Balance > ByClient {
		errs = append(errs, fmt.Errorf("balance: %s is not known", c.Balance))
	}
	return errors.Join(errs...)
}

func notNegative(name string, v int64) error {
	if v < 0 {
		return fmt.Errorf("%s: %d is negative", name, v)
	}
	return nil
}
