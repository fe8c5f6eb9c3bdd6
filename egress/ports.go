package egress

import (
	"context"
	"time"

	"millrace/internal/order"
)

// Clock is the bus clock: every age and deadline is judged on it (CORRECTNESS 18).
type Clock interface {
	Now() time.Time
}

// Head knows how far the chain is.
type Head interface {
	// Block is the number of the newest block, zero: not known. It does not wait.
	Block() uint64
}

// Lease lets one process at a time own a target.
type Lease interface {
	// Hold waits until the lease is free, then runs f while this process holds it. The context of f
	// ends when the lease is lost or ctx ends; valid says at this instant whether it is held. The
	// lease is given up when f returns, and f's error is returned.
	Hold(ctx context.Context, lease string, f func(ctx context.Context, valid func() bool) error) error
}

// Feed is one target's side of the stored orders.
type Feed interface {
	// Open makes the target's consumers where they are missing and starts them over at what is not
	// acknowledged. order.ErrFingerprint: the name belongs to another URL, or to a target of another scope.
	Open(ctx context.Context) error
	// Receive hands class p's orders to h, one by one, in stored order, until ctx ends or Remove; h may
	// block. One with Deliveries zero comes ahead of its turn; it may come once more in its turn. One
	// whose Order.Body is nil has to be read by Body.
	Receive(ctx context.Context, p order.Priority, h func(order.Delivery)) error
	// Ack acknowledges one order of class p; a lost acknowledgement is no fault.
	Ack(p order.Priority, sequence uint64) error
	// Body reads one order again.
	Body(ctx context.Context, p order.Priority, sequence uint64) (order.Delivery, error)
	// Remove deletes the consumers of a target that was taken out of the configuration, and ends
	// Receive.
	Remove(ctx context.Context) error
}

// Log is one target's ledger.
type Log interface {
	// Append stores a batch of entries, fenced: order.ErrFenced says that another process wrote
	// since Tail, so this one owns the target no more. Any other error: not known to be stored; to
	// append the same batch again is safe.
	Append(ctx context.Context, batch []byte) error
	// Tail hands every batch stored since then to f, in order, and takes the fence.
	Tail(ctx context.Context, since time.Time, f func(batch []byte) error) error
}

// Ports join the loops to the bus.
type Ports struct {
	Clock Clock
	Lease Lease
	// Feed and Log return the given target's; the fingerprint names its URL, the scope what it is owed.
	Feed func(target, fingerprint string, scope order.Scope) Feed
	Log  func(target string) Log
	// Head, if any, ends orders whose target block is past before their deadline.
	Head Head
}

// Sender makes one request to one target and says what became of it. It must return soon after ctx
// ends, and never later than its own timeout; it is called from many goroutines at once.
type Sender interface {
	Send(ctx context.Context, a Attempt) Result
}

// Attempt is one request to make.
type Attempt struct {
	// Order is complete; its body goes out as it is.
	Order *order.Order
	// Number counts the requests for this order by this process, from 1.
	Number int
	// Repeat: the target may have got this order before.
	Repeat bool
}

// Verdict is what became of one request.
type Verdict uint8

// The verdicts.
const (
	// Accepted: the target took the order.
	Accepted Verdict = iota + 1
	// Rejected: the target refused the order; sending it again can't help.
	Rejected
	// Busy: the target answered that it can't take the order now.
	Busy
	// Unreachable: the request was not written, the target can't have seen it.
	Unreachable
	// Lost: the request was written and no answer came, so the target may have the order.
	Lost
)

var verdictNames = [...]string{"", "accepted", "rejected", "busy", "unreachable", "lost"}

// String is the verdict as a metric label.
func (v Verdict) String() string {
	if int(v) >= len(verdictNames) {
		return "unknown"
	}
	return verdictNames[v]
}

// Result is a verdict with its particulars.
type Result struct {
	Verdict Verdict
	Status  int    // HTTP status, zero without an answer
	RPCCode int    // JSON-RPC error code, zero without one
	Text    string // the target's words or the error, for the ledger
	// RetryAfter is how long the target asked to be left alone; zero: it did not.
	RetryAfter time.Duration
	// FirstByte is when the request's first byte was written, on the local clock; zero: none was.
	FirstByte time.Time
}

// Destination is one target: a name, and how to reach it.
type Destination struct {
	// Name is a subjects.ValidName, unique in a process.
	Name string
	// Fingerprint names the URL without telling its secrets; another one under the same name is
	// another target.
	Fingerprint string
	// Scope is which orders it is owed; zero is order.ScopeAll.
	Scope  order.Scope
	Sender Sender
}
