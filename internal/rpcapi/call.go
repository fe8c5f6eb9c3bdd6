package rpcapi

import (
	"fmt"
	"time"
)

// Class is the queue that a call waits in.
type Class uint8

// Classes, most urgent first. FastTrack and High are not strictly ordered: see gateway.queue.fast_per_high.
const (
	FastTrack Class = iota + 1
	High
	Low
)

// Classes is how many there are; a Class indexes an array of Classes+1.
const Classes = 3

// String is the class as it stands in logs, metrics and subjects.
func (c Class) String() string {
	switch c {
	case FastTrack:
		return "fast"
	case High:
		return "high"
	case Low:
		return "low"
	default:
		return fmt.Sprintf("class(%d)", uint8(c))
	}
}

// Call is one request on its way to a node. Nobody changes it, or its bytes, while somebody has it who was given it; who
// keeps anything of it for longer than until he returns makes a copy.
type Call struct {
	Class Class
	// Body is what the node gets, byte for byte: one JSON-RPC request, or whatever came where nobody read it.
	Body []byte
	// Method is of a Body that was read; empty: nobody looked, and what it is has to be found out before it may be
	// sent twice.
	Method string
	// Block is what the call reads; the zero Block says nothing.
	Block Block
	// Client tells callers apart, for choosing the same node for the same caller; 0: any.
	Client uint64
	// Node is the only node that can answer; 0: any.
	Node Tag
	// Received is when the call came: its time in the queue counts from there.
	Received time.Time
	// RequestID is the caller's name for the call, for logs.
	RequestID string
	// Waits is called by who has the call wait for the answer to another one, before it does; nil: nobody minds.
	Waits func()
}

// Answer is what a node said.
type Answer struct {
	// Status is the node's HTTP status, below 400.
	Status int
	// Body is the caller's to keep.
	Body []byte
	// Node answered; Tries counts the nodes that were asked, itself included.
	Node  *Node
	Tries int
	// Height is the head of the node as it was last known; 0: unknown.
	Height uint64
	// Queued is how long the call waited for places, Served how long nodes took.
	Queued, Served time.Duration
	// QueueStart and QueueEnd are how many calls of its class waited, itself included at the start.
	QueueStart, QueueEnd int
}
