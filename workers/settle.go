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
		if !d.Seen {
			return w.expire(ctx, d.Order)
		}
		w.metrics.late.Inc()
	}
	pctx, cancel := context.WithTimeout(ctx, max(valid.Deadline.Sub(now), 0)+graceAfterDeadline)
	defer cancel()
	if _, err := w.ports.Publisher.PublishOK(pctx, valid); err != nil {
		return w.unpublished(ctx, d.Order, err)
	}
	w.metrics.settled(nil)
	w.tell(ctx, d.Order, nil)
	return nil
}

// unpublished decides about a valid order that PublishOK did not store, as far as it knows. One that
// OK will never take comes back until its deadline, as a later version of the store may take it.
func (w *Worker) unpublished(ctx context.Context, o *order.Order, err error) error {
	reason := order.AsReason(err)
	unsettled := errors.Is(err, order.ErrFull) || errors.Is(err, order.ErrUnavailable) || ctx.Err() != nil
	switch {
	case reason != nil:
		return w.refuse(ctx, o, ledger.Invalid, reason)
	case unsettled:
		return fmt.Errorf("publish %s: %w", o.ID, err)
	}
	w.unstorable.Do(func() {
		w.log.LogAttrs(ctx, slog.LevelError, "validated order can't be stored",
			slog.String("order_id", o.ID.String()), slog.String("accept_id", o.Accept.String()),
			slog.Int("size", len(o.Body)), slog.Any("error", err))
	})
	if o.Expired(w.ports.Clock.Now()) {
		return w.expire(ctx, o)
	}
	return fmt.Errorf("publish %s: %w", o.ID, err)
}

// expire ends an order that never got to OK in time. Its sender is not at fault, so nothing is
// refused; whether it is sent again is up to the sender.
func (w *Worker) expire(ctx context.Context, o *order.Order) error {
	reason := order.Refuse(order.CodeExpired, "order expired before it was validated")
	if err := w.record(ctx, o, ledger.Expired, reason); err != nil {
		return err
	}
	w.metrics.settled(reason)
	w.tell(ctx, o, reason)
	return reason
}

// refuse ends an order at its own fault: the refusal first, so that a repeat at another door is
// answered with it as soon as the record can be seen, then the record, then the waiting door.
func (w *Worker) refuse(ctx context.Context, o *order.Order, as ledger.Outcome, reason *order.Reason) error {
	sctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := w.ports.Refusals.PutRefusal(sctx, o.ID, reason); err != nil {
		return fmt.Errorf("store refusal of %s: %w", o.ID, err)
	}
	if err := w.record(ctx, o, as, reason); err != nil {
		return err
	}
	w.metrics.settled(reason)
	w.tell(ctx, o, reason)
	return reason
}

// record stores the one record for all targets (CORRECTNESS 9).
func (w *Worker) record(ctx context.Context, o *order.Order, as ledger.Outcome, reason *order.Reason) error {
	e := ledger.Of(o)
	e.Outcome, e.Code, e.Text, e.DoneAt = as, reason.Code, reason.Text, w.ports.Clock.Now()
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err := w.ports.Recorder.RecordRejected(ctx, o, e.AppendTo(make([]byte, 0, ledger.EntrySize)))
	if err != nil {
		return fmt.Errorf("record %s of %s: %w", as, o.ID, err)
	}
	return nil
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
