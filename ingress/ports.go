package ingress

import (
	"context"
	"time"

	"millrace/internal/order"
)

// Publisher stores an order: on return with a nil error it is on disk (or was before, see
// order.Receipt.Duplicate). order.ErrFull means not stored, any other error unknown. It must not
// read o or o.Body after it has returned; the door reuses both.
type Publisher interface {
	Publish(ctx context.Context, o *order.Order) (order.Receipt, error)
}

// Verdicts calls f with each verdict addressed to the given ingress until ctx ends. f does not
// block.
type Verdicts interface {
	Verdicts(ctx context.Context, ingress string, f func(order.Verdict)) error
}

// Refusals are the refusals that every ingress process can read by order id for the duplicate
// window. Refusal returns nil, nil when there is none; AwaitRefusal waits for one until ctx ends
// and then returns nil, nil.
type Refusals interface {
	Refusal(ctx context.Context, id order.ID) (*order.Reason, error)
	AwaitRefusal(ctx context.Context, id order.ID) (*order.Reason, error)
}

// Backlog tells the age of a class's oldest order that no worker has taken yet. It is called for
// each order, so it must be cheap: a sampled value.
type Backlog interface {
	Oldest(p order.Priority) time.Duration
}

// Door tells whether the disk guard has closed the door, and why. Cheap, like Backlog.
type Door interface {
	DoorClosed() (reason string, closed bool)
}

// Clock is the bus clock (CORRECTNESS 18).
type Clock interface {
	Now() time.Time
}

// Health is nil or the reason why orders can't be stored now; /readyz shows it.
type Health interface {
	Healthy() error
}

// Ports are what the door needs from the rest of the system. Health may be nil, and Status, without
// which there is no millrace_orderStatus; all others are required.
type Ports struct {
	Publisher Publisher
	Verdicts  Verdicts
	Refusals  Refusals
	Backlog   Backlog
	Door      Door
	Clock     Clock
	Health    Health
	Status    Status
}
