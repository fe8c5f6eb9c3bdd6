package bus

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/internal/order"
	"millrace/subjects"
)

var errTodo = errors.New("not written yet")

// Bus is one process's access to NATS; create it with Dial, safe for concurrent use.
type Bus struct{}

// Dial connects.
func Dial(ctx context.Context, cfg Config, topo subjects.Options, log *slog.Logger, reg prometheus.Registerer) (*Bus, error) {
	return nil, errTodo
}

// Run keeps house until ctx ends.
func (b *Bus) Run(ctx context.Context) error { return errTodo }

// Change is one difference between what is declared and what exists.
type Change struct {
	Kind string // "stream", "consumer", "bucket"
	Name string
	What string // "create", or the fields that differ
}

func (b *Bus) Plan(ctx context.Context) ([]Change, error)  { return nil, errTodo }
func (b *Bus) Apply(ctx context.Context) ([]Change, error) { return nil, errTodo }
func (b *Bus) Healthy() error                              { return errTodo }
func (b *Bus) Now() time.Time                              { return time.Now() }
func (b *Bus) Monitor() http.Handler                       { return nil }
func (b *Bus) Publish(ctx context.Context, o *order.Order) (order.Receipt, error) {
	return order.Receipt{}, errTodo
}
func (b *Bus) Oldest(p order.Priority) time.Duration                           { return 0 }
func (b *Bus) DoorClosed() (reason string, closed bool)                        { return "", false }
func (b *Bus) Refusal(ctx context.Context, id order.ID) (*order.Reason, error) { return nil, errTodo }
func (b *Bus) AwaitRefusal(ctx context.Context, id order.ID) (*order.Reason, error) {
	return nil, errTodo
}
func (b *Bus) Verdicts(ctx context.Context, ingress string, f func(order.Verdict)) error {
	return errTodo
}

// InHandler is what a worker does with an order; see ConsumeIn.
type InHandler = func(ctx context.Context, d order.Delivery, yield func()) (finish func(context.Context) error, err error)

func (b *Bus) ConsumeIn(ctx context.Context, slots int, h InHandler) error { return errTodo }
func (b *Bus) PublishOK(ctx context.Context, o *order.Order) (order.Receipt, error) {
	return order.Receipt{}, errTodo
}
func (b *Bus) RecordRejected(ctx context.Context, p order.Priority, a order.AcceptID, entry []byte) error {
	return errTodo
}
func (b *Bus) PutRefusal(ctx context.Context, id order.ID, r *order.Reason) error { return errTodo }
func (b *Bus) SendVerdict(ctx context.Context, ingress string, v order.Verdict) error {
	return errTodo
}
func (b *Bus) MarkSuspect(ctx context.Context, a order.AcceptID) (already bool, err error) {
	return false, errTodo
}
func (b *Bus) ClearSuspect(ctx context.Context, a order.AcceptID) error      { return errTodo }
func (b *Bus) BroadcastSigners(ctx context.Context, batch []byte) error      { return errTodo }
func (b *Bus) SignerBatches(ctx context.Context, f func(batch []byte)) error { return errTodo }
func (b *Bus) Hold(ctx context.Context, lease string, f func(ctx context.Context, valid func() bool) error) error {
	return errTodo
}

// Feed is one target's side of the OK streams.
type Feed struct{}

func (b *Bus) Feed(target, fingerprint string) *Feed { return &Feed{} }
func (f *Feed) Open(ctx context.Context) error       { return errTodo }
func (f *Feed) Receive(ctx context.Context, p order.Priority, h func(order.Delivery)) error {
	return errTodo
}
func (f *Feed) Ack(p order.Priority, sequence uint64) error { return errTodo }
func (f *Feed) Body(ctx context.Context, p order.Priority, sequence uint64) (order.Delivery, error) {
	return order.Delivery{}, errTodo
}
func (f *Feed) Remove(ctx context.Context) error { return errTodo }

// DoneLog is the ledger of one target.
type DoneLog struct{}

func (b *Bus) Done(target string) *DoneLog                        { return &DoneLog{} }
func (l *DoneLog) Append(ctx context.Context, batch []byte) error { return errTodo }
func (l *DoneLog) Tail(ctx context.Context, since time.Time, f func(batch []byte) error) error {
	return errTodo
}
func (b *Bus) Ledger(ctx context.Context, since time.Time, f func(subject string, batch []byte, stored time.Time) error) error {
	return errTodo
}
