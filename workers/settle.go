package workers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

const (
	// graceAfterDeadline is how long past an order's deadline an attempt to store it in OK may take
	// that was begun in time.
	graceAfterDeadline = 2 * time.Second
	// storeTimeout bounds the storing of a record or a refusal; then the order comes back.
	storeTimeout = 5 * time.Second
	// verdictTimeout bounds telling the door, which waits no longer than a moment.
	verdictTimeout = time.Second
)

// approve stores a valid order in OK and tells the door.
func (w *Worker) approve(ctx context.Context, d order.Delivery, valid *order.Order) error {
	now := w.ports.Clock.Now()
	if valid.Trail != nil {
		valid.Trail.DecidedAt = now
	}
	if valid.Expired(now) {
		return w.expire(ctx, d)
	}
	if d.Seen {
		if ended, err := w.recorded(ctx, d.Order); ended || err != nil {
			return err
		}
	}
	pctx, cancel := context.WithTimeout(ctx, valid.Deadline.Sub(now)+graceAfterDeadline)
	defer cancel()
	r, err := w.ports.Publisher.PublishOK(pctx, valid)
	if err != nil {
		return w.unpublished(ctx, d, err)
	}
	if r.Duplicate {
		return w.settleDuplicate(ctx, d)
	}
	w.metrics.settled(nil)
	w.tell(ctx, d.Order, nil)
	return nil
}

// settleDuplicate finds out what OK has under the order's message id: the order, from an earlier
// attempt, or the claim of a worker that ended it.
func (w *Worker) settleDuplicate(ctx context.Context, d order.Delivery) error {
	err := w.claim(ctx, d, w.entry(d.Order, ledger.Expired, errExpired))
	if err != nil {
		return err
	}
	w.metrics.settled(nil)
	w.tell(ctx, d.Order, nil)
	return nil
}

// unpublished decides about a valid order that PublishOK did not store, as far as it knows. One that
// OK will never take comes back until its deadline, as a later version of the store may take it.
func (w *Worker) unpublished(ctx context.Context, d order.Delivery, err error) error {
	o := d.Order
	reason := order.AsReason(err)
	unsettled := errors.Is(err, order.ErrFull) || errors.Is(err, order.ErrUnavailable) || ctx.Err() != nil
	switch {
	case reason != nil:
		return w.end(ctx, d, ledger.Invalid, reason)
	case unsettled:
		return fmt.Errorf("publish %s: %w", o.ID, err)
	}
	w.unstorable.Do(func() {
		w.log.LogAttrs(ctx, slog.LevelError, "validated order can't be stored",
			slog.String("order_id", o.ID.String()), slog.String("accept_id", o.Accept.String()),
			slog.Int("size", len(o.Body)), slog.Any("error", err))
	})
	if o.Expired(w.ports.Clock.Now()) {
		return w.expire(ctx, d)
	}
	return fmt.Errorf("publish %s: %w", o.ID, err)
}

// errExpired is the end of an order that did not get to OK in time. Its sender is not at fault, so
// nothing is refused; whether it is sent again is up to the sender.
var errExpired = order.Refuse(order.CodeExpired, "order expired before it was validated")

func (w *Worker) expire(ctx context.Context, d order.Delivery) error {
	return w.end(ctx, d, ledger.Expired, errExpired)
}

// tell sends the verdict to the door that waits. A lost one costs the sender the reason, not the
// order: the door answers success then, and the refusal can be read by id.
func (w *Worker) tell(ctx context.Context, o *order.Order, reason *order.Reason) {
	if o.Ingress == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, verdictTimeout)
	defer cancel()
	v := order.Verdict{Accept: o.Accept, ID: o.ID, Signer: o.Signer, Reason: reason}
	if err := w.ports.Verdicts.SendVerdict(ctx, o.Ingress, v); err != nil {
		w.metrics.verdictErrors.Inc()
		w.log.LogAttrs(ctx, slog.LevelDebug, "verdict not sent",
			slog.String("ingress", o.Ingress), slog.String("accept_id", o.Accept.String()), slog.Any("error", err))
	}
}
