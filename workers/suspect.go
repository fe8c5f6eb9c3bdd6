package workers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"millrace/internal/ledger"
	"millrace/internal/order"
	"millrace/internal/retry"
)

// maxCondemned bounds the poisoned orders that wait for their record; more are not remembered, so
// they are tried alone once more.
const maxCondemned = 1024

// condemned are the orders found poisoned whose record is not stored yet: by then the store may have
// taken the mark for this process life's own. The zero value is ready.
type condemned struct {
	mu  sync.Mutex
	ids map[order.AcceptID]struct{}
}

func (c *condemned) add(a order.AcceptID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ids == nil {
		c.ids = make(map[order.AcceptID]struct{})
	}
	if len(c.ids) < maxCondemned {
		c.ids[a] = struct{}{}
	}
}

func (c *condemned) has(a order.AcceptID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.ids[a]
	return ok
}

func (c *condemned) remove(a order.AcceptID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.ids, a)
}

// runAlone settles an order that came back too often to be trusted (CORRECTNESS 8).
func (w *Worker) runAlone(ctx context.Context, d order.Delivery) error {
	if ended, err := w.recorded(ctx, d.Order); err != nil {
		return err
	} else if ended {
		w.acquit(ctx, d.Order)
		return nil
	}
	valid, err := w.tryAlone(ctx, d.Order)
	if errors.Is(err, errPoison) {
		return w.poison(ctx, d)
	}
	finish, err := w.settlement(d, valid, err)
	if err != nil {
		return err
	}
	return finish(ctx)
}

// errPoison: the order killed a process, or would have, when nothing else ran.
var errPoison = errors.New("order is poison")

// tryAlone validates o with a mark in the store and no other order beside it.
func (w *Worker) tryAlone(ctx context.Context, o *order.Order) (*order.Order, error) {
	select {
	case w.suspect <- struct{}{}:
		defer func() { <-w.suspect }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to run %s alone: %w", o.ID, ctx.Err())
	}
	if w.condemned.has(o.Accept) {
		return nil, errPoison
	}
	already, err := w.mark(ctx, o.Accept)
	if err != nil {
		return nil, err
	}
	if already {
		w.condemned.add(o.Accept)
		return nil, errPoison
	}
	w.metrics.suspects.Inc()
	valid, err := w.validateAlone(ctx, o)
	if errors.Is(err, ErrPanic) {
		w.condemned.add(o.Accept)
		return nil, errPoison
	}
	// Nothing may go on before the mark is gone: if the process ended then, in peace, the order would
	// be taken for its murderer.
	if cerr := w.unmark(ctx, o.Accept); cerr != nil {
		return nil, cerr
	}
	return valid, err
}

// validateAlone waits until no other order is in validation and keeps it so.
func (w *Worker) validateAlone(ctx context.Context, o *order.Order) (valid *order.Order, err error) {
	defer w.recovered(ctx, o, &err)
	w.alone.Lock()
	defer w.alone.Unlock()
	started := time.Now()
	valid, err = w.validate(ctx, o, w.check, func() {})
	w.metrics.validated(o.Priority, time.Since(started))
	return valid, err
}

func (w *Worker) mark(ctx context.Context, a order.AcceptID) (already bool, err error) {
	mctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	already, err = w.ports.Suspects.MarkSuspect(mctx, a)
	if err == nil {
		return already, nil
	}
	err = fmt.Errorf("mark suspect %s: %w", a, err)
	if _, later := retry.Delay(err); later {
		return false, err // another process's mark: it is the evidence, so it stays
	}
	// It may have been stored all the same, and would accuse an order that has not run.
	return false, errors.Join(err, w.unmark(ctx, a))
}

// unmark removes the mark even while the process stops.
func (w *Worker) unmark(ctx context.Context, a order.AcceptID) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err := w.ports.Suspects.ClearSuspect(ctx, a); err != nil {
		return fmt.Errorf("clear suspect %s: %w", a, err)
	}
	return nil
}

// poison ends an order as poisoned, unless it is in OK since an earlier attempt: then the process
// died of something else, or nothing is to be gained by keeping the order from its targets.
func (w *Worker) poison(ctx context.Context, d order.Delivery) error {
	o := d.Order
	err := w.end(ctx, d, ledger.Poisoned, order.Refuse(order.CodePoisoned, "order crashed a validator repeatedly"))
	reason := order.AsReason(err)
	if err != nil && reason == nil {
		return err
	}
	if reason != nil && reason.Code == order.CodePoisoned {
		w.metrics.poisoned.Inc()
		w.log.LogAttrs(ctx, slog.LevelError, "order poisoned",
			slog.String("accept_id", o.Accept.String()), slog.String("order_id", o.ID.String()), slog.String("signer", o.Signer.Hex()))
	}
	w.acquit(ctx, o)
	return err
}

// lapse ends an order that has expired before this attempt at it.
func (w *Worker) lapse(ctx context.Context, d order.Delivery) error {
	err := w.expire(ctx, d)
	if d.Deliveries > suspectAfter && (err == nil || order.AsReason(err) != nil) { // it may have run alone before
		w.acquit(ctx, d.Order)
	}
	return err
}

// acquit forgets the suspicion against an order that has its end.
func (w *Worker) acquit(ctx context.Context, o *order.Order) {
	w.condemned.remove(o.Accept)
	if err := w.unmark(ctx, o.Accept); err != nil {
		w.log.LogAttrs(ctx, slog.LevelWarn, "mark of an order that has ended not removed",
			slog.String("accept_id", o.Accept.String()), slog.Any("error", err))
	}
}
