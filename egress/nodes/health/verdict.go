package health

import (
	"encoding"
	"fmt"
	"time"

	"millrace/internal/rpcapi"
)

// Verdict is what the choice of a node needs to know about it.
type Verdict struct {
	Healthy bool
	// Share is how much of its places it may be given: 1, or less while it returns; 0 if it is not healthy.
	Share float64
	// Height is its head as last known; 0: not known.
	Height uint64
}

// Outcome is how a call to a node went.
type Outcome uint8

// Outcomes.
const (
	// Answered: the node answered, with any status below 500 but 429.
	Answered Outcome = iota + 1
	// Refused: no connection, or it broke before the node answered.
	Refused
	// TimedOut: no answer in time.
	TimedOut
	// Failed: a status of 500 or more.
	Failed
	// Throttled: status 429.
	Throttled
	// Canceled: the caller left, or another node was faster.
	Canceled
)

const outcomes = int(Canceled)

// String is the outcome as it stands in metrics.
func (o Outcome) String() string {
	switch o {
	case Answered:
		return "answered"
	case Refused:
		return "refused"
	case TimedOut:
		return "timed_out"
	case Failed:
		return "failed"
	case Throttled:
		return "throttled"
	case Canceled:
		return "canceled"
	default:
		return fmt.Sprintf("outcome(%d)", uint8(o))
	}
}

// failures are the outcomes that speak against a node.
func failures() []Outcome { return []Outcome{Refused, TimedOut, Failed, Throttled} }

// State is what a node may be used for.
type State uint8

// States.
const (
	// Healthy: for everything.
	Healthy State = iota + 1
	// Returning: for a share that grows.
	Returning
	// Ejected: for nothing, because of how calls went.
	Ejected
	// Unhealthy: for nothing, because of its checks.
	Unhealthy
)

// Usable says that a node in this state is given calls.
func (s State) Usable() bool { return s == Healthy || s == Returning }

var _ encoding.TextMarshaler = State(0)

// String is the state as it stands in logs and tables.
func (s State) String() string {
	switch s {
	case Healthy:
		return "healthy"
	case Returning:
		return "returning"
	case Ejected:
		return "ejected"
	case Unhealthy:
		return "unhealthy"
	default:
		return fmt.Sprintf("state(%d)", uint8(s))
	}
}

// MarshalText is String.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Reason is why a node is not in full use; of one that returns, why it was out.
type Reason string

// Reasons of checks.
const (
	ReasonUnchecked   Reason = "unchecked"   // no check has ended yet
	ReasonUnreachable Reason = "unreachable" // it can't be asked
	ReasonTimeout     Reason = "timeout"     // it does not answer in time
	ReasonStatus      Reason = "status"      // it answers with an error status
	ReasonRPCError    Reason = "rpc_error"   // it answers with an error, or without a head
	ReasonNoMethods   Reason = "no_methods"  // it does not know the methods of ModeFull
	ReasonWrongChain  Reason = "wrong_chain"
	ReasonSyncing     Reason = "syncing"
	ReasonStaleHead   Reason = "stale_head" // its head is older than Config.MaxHeadAge
	ReasonLagging     Reason = "lagging"    // more than Config.MaxLag blocks behind
)

// Reasons of ejections.
const (
	ReasonRefused   Reason = "refused"    // connections, one after the other
	ReasonErrorRate Reason = "error_rate" // too many calls failed
	ReasonThrottled Reason = "throttled"  // too many calls were throttled
	ReasonSlow      Reason = "slow"       // by itself and compared with its peers
	ReasonRelapse   Reason = "relapse"    // a call failed while it returned
)

func ejections() []Reason {
	return []Reason{ReasonRefused, ReasonErrorRate, ReasonThrottled, ReasonSlow, ReasonRelapse}
}

// Status is all that is known about a node, for people.
type Status struct {
	Node  *rpcapi.Node
	State State
	// Reason is empty while it is healthy.
	Reason Reason
	// Since is when it came into this state; Until is how long it stays ejected at least.
	Since, Until time.Time
	Share        float64
	// ChainID, Height and Finalized are 0 where it does not tell.
	ChainID, Height, Finalized uint64
	// HeadAge is the age of its head by the block's own time; 0: not known.
	HeadAge time.Duration
	// Samples is how many calls of the last Config.Window the following rest on.
	Samples  uint64
	P50, P99 time.Duration
	// ErrorRate is the share of calls that failed, throttled ones aside.
	ErrorRate float64
	// LastError is what a check last failed with, short and without credentials.
	LastError string
}
