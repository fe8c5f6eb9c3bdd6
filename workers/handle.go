package workers

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"millrace/internal/ledger"
	"millrace/internal/order"
	"millrace/internal/retry"
)

// panicDelay is how long an order that panicked waits for its next attempt.
const panicDelay = 100 * time.Millisecond

// handle decides about one delivery in a slot and returns what is to be stored outside of it.
func (w *Worker) handle(ctx context.Context, d order.Delivery, yield func()) (func(context.Context) error, error) {
	w.metrics.inSlot.Inc()
	defer w.metrics.inSlot.Dec()
	now := w.ports.Clock.Now()
	w.metrics.waited(d, now)
	d.Order.Trail = &order.Trail{InSequence: d.Sequence, InStoredAt: d.StoredAt, Attempts: d.Deliveries}
	switch {
	case d.Order.Expired(now):
		return func(ctx context.Context) error { return w.lapse(ctx, d) }, nil
	case d.Deliveries >= suspectAfter:
		return func(ctx context.Context) error { return w.runAlone(ctx, d) }, nil
	}
	valid, err := w.validateShared(ctx, d.Order, yield)
	return w.settlement(d, valid, err)
}

// validateShared validates beside other orders, giving way to more urgent ones.
func (w *Worker) validateShared(ctx context.Context, o *order.Order, yield func()) (valid *order.Order, err error) {
	watch := stopwatch{started: time.Now()}
	defer w.recovered(ctx, o, &err)
	w.alone.RLock()
	defer w.alone.RUnlock()
	give := func() { watch.pause(yield) }
	valid, err = w.validate(ctx, o, w.checkAside(ctx, o, give), func() {
		w.alone.RUnlock()
		defer w.alone.RLock()
		give()
	})
	w.metrics.validated(o.Priority, watch.elapsed())
	return valid, err
}

// settlement turns a verdict into what has to be stored for it.
func (w *Worker) settlement(d order.Delivery, valid *order.Order, err error) (func(context.Context) error, error) {
	reason := order.AsReason(err)
	if reason == nil && err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		if reason != nil {
			return w.end(ctx, d, ledger.Invalid, reason)
		}
		return w.approve(ctx, d, valid)
	}, nil
}

// recovered turns a panic into an error that brings the order back.
func (w *Worker) recovered(ctx context.Context, o *order.Order, err *error) {
	p := recover()
	if p == nil {
		return
	}
	w.metrics.panics.Inc()
	w.log.LogAttrs(ctx, slog.LevelError, "validating an order panicked",
		slog.String("accept_id", o.Accept.String()), slog.String("order_id", o.ID.String()),
		slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
	*err = retry.After(fmt.Errorf("%w: %v", ErrPanic, p), panicDelay)
}
