package dispatch

import (
	"fmt"
	"time"

	"millrace/internal/rpcapi"
)

// Want is what a call asks for.
type Want struct {
	// Class is the queue; one that is not known counts as Low.
	Class rpcapi.Class
	// Client is for ByClient; 0: any.
	Client uint64
	// Node is the only node that can serve the call; 0: any.
	Node rpcapi.Tag
	// Avoid are nodes that are taken only when no other can serve the call. It must not change while the call waits.
	Avoid []rpcapi.Tag
	// Height is the block that the call needs: nodes that are known to be below are not chosen. 0: any.
	Height uint64
	// Received is when the call came, its deadline counts from there; the zero time is now.
	Received time.Time
	// Position is where in its class the call waits; 0: Back.
	Position Position
}

// plain says that any node that serves anybody serves w.
func (w *Want) plain() bool { return w.Node == 0 && w.Height == 0 && len(w.Avoid) == 0 }

func (w *Want) class() rpcapi.Class {
	if w.Class < rpcapi.FastTrack || w.Class > rpcapi.Low {
		return rpcapi.Low
	}
	return w.Class
}

// Position is where a call waits.
type Position uint8

// Positions: Front is for the retry of a call that had a place before.
const (
	Back Position = iota + 1
	Front
)

// String names p.
func (p Position) String() string {
	switch p {
	case Back:
		return "back"
	case Front:
		return "front"
	default:
		return fmt.Sprintf("position(%d)", uint8(p))
	}
}

// Place is the right to make one request to a node. It is given back once, with Release.
type Place struct {
	Tag rpcapi.Tag
	// Height is the node's head as it was last known; 0: unknown.
	Height uint64
	// Queued is how long the call waited; 0: it did not.
	Queued time.Duration
	// QueueStart is how many calls of the class waited when this one came, itself included; QueueEnd how many waited
	// when it got its place, without it.
	QueueStart, QueueEnd int

	node *node
}

// Member is a node of the set.
type Member struct {
	Tag rpcapi.Tag
	// Places is how many calls it is given at a time; 0 or less: none.
	Places int
	// Weight is its share; 0 or less: 1.
	Weight float64
	// Standing is what a member starts with that was not there before; the zero Standing is Healthy.
	Standing Standing
}

// Standing is what is thought of a node.
type Standing struct {
	State State
	// Share is the part of its places that a Returning node is given, 0 to 1; it gets one at least.
	Share float64
	// Height is its head as far as is known; 0: unknown.
	Height uint64
}

// State is whether a node is chosen; 0 counts as Healthy.
type State uint8

// States.
const (
	Healthy State = iota + 1
	// Returning was unhealthy and is given a share of its places.
	Returning
	// Unhealthy is chosen only by calls that no other node can serve that they do not avoid.
	Unhealthy
)

// String is the state as it stands in tables and logs.
func (s State) String() string {
	switch s {
	case Healthy:
		return "healthy"
	case Returning:
		return "returning"
	case Unhealthy:
		return "unhealthy"
	default:
		return fmt.Sprintf("state(%d)", uint8(s))
	}
}

// Load is how much a member has to do.
type Load struct {
	Tag rpcapi.Tag
	// Busy is how many of its places are taken. It can exceed Limit for a while after that was lowered.
	Busy int
	// Places is how many it has, Limit how many of them it is given as it stands.
	Places, Limit int
	Standing      Standing
}
