package workers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"millrace/internal/order"
)

// Source hands out accepted orders, high before medium before low, until ctx ends. h runs in one of
// slots places; it calls yield between transactions, so that waiting orders of a higher class run
// first, nested in its place. finish, which may be nil, runs outside of the place. The error of h,
// else of finish, is the verdict: nil and a *order.Reason end the order, anything else brings it
// back.
type Source interface {
	ConsumeIn(ctx context.Context, slots int,
		h func(ctx context.Context, d order.Delivery, yield func()) (finish func(context.Context) error, err error)) error
}

// Publisher stores a validated order in OK under a message id made from its origin, id and
// acceptance, so that a retry is stored once. It waits while OK is full or unavailable, until ctx
// ends; then the error is order.ErrFull, or order.ErrUnavailable and the outcome unknown. Any other
// error means that OK will never take it.
type Publisher interface {
	PublishOK(ctx context.Context, o *order.Order) (order.Receipt, error)
}

// Recorder stores the ledger entry of an order that ended before OK, with its trail. A nil error
// means stored; a retry with the same acceptance is stored once.
type Recorder interface {
	RecordRejected(ctx context.Context, o *order.Order, entry []byte) error
}

// Ends settles which end counts for an order that another worker may have handed out, ended, or be about
// to end as well.
type Ends interface {
	// ClaimEnd keeps o out of OK from now on and returns the ledger entry to be recorded: the given one, or
	// that of the worker who claimed first. nil: nothing is to be recorded, because o is in OK, or was, or
	// has a record. An error says nothing about the claim, which can be made again.
	ClaimEnd(ctx context.Context, o *order.Order, entry []byte) (claimed []byte, err error)
	// Recorded reports whether o has a record of an end before OK.
	Recorded(ctx context.Context, o *order.Order) (bool, error)
}

// Refusals keeps why an order was refused, for every door to read.
type Refusals interface {
	PutRefusal(ctx context.Context, id order.ID, r *order.Reason) error
}

// Verdicts tells a waiting door, at most once.
type Verdicts interface {
	SendVerdict(ctx context.Context, ingress string, v order.Verdict) error
}

// Suspects keeps the marks of orders that run alone. MarkSuspect stores a mark before it returns;
// already says that processes which had set one died often enough for the order to be the cause. While
// a process that set one may be alive, the error asks to come back later (retry.After).
type Suspects interface {
	MarkSuspect(ctx context.Context, a order.AcceptID) (already bool, err error)
	ClearSuspect(ctx context.Context, a order.AcceptID) error
}

// Clock is the bus clock.
type Clock interface {
	Now() time.Time
}

// Rules checks one transaction: *order.Rules, or a *signers.Cache in front of it. Every error is a
// *order.Reason. Warm loads what the first check of a kind would have to wait for; it takes a
// second or two of processor time, once per process.
type Rules interface {
	Check(raw []byte, kind order.Kind, now time.Time) (order.TxInfo, error)
	Warm()
}

// Ports are what the pool needs from the rest of the system; all are required.
type Ports struct {
	Source    Source
	Publisher Publisher
	Recorder  Recorder
	Ends      Ends
	Refusals  Refusals
	Verdicts  Verdicts
	Suspects  Suspects
	Clock     Clock
}

func (p *Ports) validate() error {
	var errs []error
	for _, port := range [...]struct {
		name    string
		missing bool
	}{
		{"source", p.Source == nil},
		{"publisher", p.Publisher == nil},
		{"recorder", p.Recorder == nil},
		{"ends", p.Ends == nil},
		{"refusals", p.Refusals == nil},
		{"verdicts", p.Verdicts == nil},
		{"suspects", p.Suspects == nil},
		{"clock", p.Clock == nil},
	} {
		if port.missing {
			errs = append(errs, fmt.Errorf("%w: no %s", ErrConfig, port.name))
		}
	}
	return errors.Join(errs...)
}
