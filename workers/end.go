package workers

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

// soleFor is how long after it was received an order that is handed out for the first time can't be
// with another worker: half of what the source waits for an acknowledgement.
const soleFor = 2 * time.Second

// end ends an order before OK, once and for all targets (CORRECTNESS 9), unless it has another end.
// The error is the reason for the end; nil: it had one before.
//
// What no other worker can have had is recorded right away: whoever gets it next, while the record is
// on its way, finds the same fault, or the deadline past as well. Everything else is claimed first.
func (w *Worker) end(ctx context.Context, d order.Delivery, as ledger.Outcome, reason *order.Reason) error {
	e := w.entry(d.Order, as, reason)
	if !d.Seen && w.ports.Clock.Now().Sub(d.Order.Accept.Received()) < soleFor {
		return w.finish(ctx, d.Order, e, reason)
	}
	return w.claim(ctx, d, e)
}

// entry is the record of an end of o.
func (w *Worker) entry(o *order.Order, as ledger.Outcome, reason *order.Reason) *ledger.Entry {
	e := ledger.Of(o)
	e.Outcome, e.Code, e.Text, e.DoneAt = as, reason.Code, reason.Text, w.ports.Clock.Now()
	return &e
}

// claim ends an order that another worker may have, or have had, as e says or as that worker said
// first. nil: it is in OK, or has its record.
func (w *Worker) claim(ctx context.Context, d order.Delivery, e *ledger.Entry) error {
	cctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	ours := e.AppendTo(make([]byte, 0, ledger.EntrySize))
	claimed, err := w.ports.Ends.ClaimEnd(cctx, d.Order, ours)
	switch {
	case err != nil:
		return fmt.Errorf("end %s as %s: %w", d.Order.ID, e.Outcome, err)
	case claimed == nil:
		w.metrics.repeats.Inc()
		return nil
	}
	if es, err := ledger.Decode(claimed); err == nil && len(es) == 1 && es[0].Accept == e.Accept {
		e = &es[0]
	}
	return w.finish(ctx, d.Order, e, order.Refuse(e.Code, e.Text))
}

// recorded reports whether an order that comes back has a record and needs nothing more.
func (w *Worker) recorded(ctx context.Context, o *order.Order) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	ended, err := w.ports.Ends.Recorded(ctx, o)
	if err != nil {
		return false, fmt.Errorf("look for an end of %s: %w", o.ID, err)
	}
	if ended {
		w.metrics.repeats.Inc()
		w.log.LogAttrs(ctx, slog.LevelDebug, "order came back after its end", slog.String("accept_id", o.Accept.String()))
	}
	return ended, nil
}

// finish stores an end that is decided. The refusal comes first, so that a repeat at another door is
// answered with it as soon as the record can be seen, and so that a record is the sign that nothing is
// left to do; then the record, then the waiting door. The acknowledgement follows from the error.
func (w *Worker) finish(ctx context.Context, o *order.Order, e *ledger.Entry, reason *order.Reason) error {
	sctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if e.Outcome != ledger.Expired {
		if err := w.ports.Refusals.PutRefusal(sctx, o.ID, reason); err != nil {
			return fmt.Errorf("store refusal of %s: %w", o.ID, err)
		}
	}
	if err := w.record(ctx, o, e); err != nil {
		return err
	}
	w.metrics.settled(reason)
	w.tell(ctx, o, reason)
	return reason
}

// record stores the one record for all targets.
func (w *Worker) record(ctx context.Context, o *order.Order, e *ledger.Entry) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err := w.ports.Recorder.RecordRejected(ctx, o, e.AppendTo(make([]byte, 0, ledger.EntrySize)))
	if err != nil {
		return fmt.Errorf("record %s of %s: %w", e.Outcome, o.ID, err)
	}
	return nil
}
