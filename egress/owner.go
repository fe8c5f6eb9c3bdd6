package egress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

// errRemoved ends the loop of a target that was taken out and is done with.
var errRemoved = errors.New("target removed")

// tail reads the ledger from since on, so that the loop knows what ended before it (CORRECTNESS 12).
func (l *loop) tail(ctx context.Context, since time.Time) error {
	err := l.ledger.Tail(ctx, since, func(b []byte) error {
		es, err := ledger.Decode(b)
		if err != nil {
			return err
		}
		for i := range es {
			l.heir = true
			l.mem.remember(&es[i], l.mem.origin(es[i].Origin))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read ledger of %s: %w", l.name, err)
	}
	l.tailSince, l.tailAt = toMicros(since), toMicros(l.clock.Now())
	return nil
}

// widen reads further back, because an order came that was stored before what was read: nobody owned
// the target for a while, and the last owner's acknowledgements may be lost. An order's record is
// always younger than the order.
func (l *loop) widen(ctx context.Context, storedAt time.Time) error {
	if len(l.recorder.writing) > 0 { // the fence must not move under a write
		select {
		case w := <-l.recorder.written:
			if err := l.recorded(w); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return l.tail(ctx, storedAt.Add(-tailMargin))
}

// beginRemoval ends everything that the target is still owed: what waits now, what comes until the
// backlog is read, and what is on the wire when it comes back without a verdict.
func (l *loop) beginRemoval(ctx context.Context, now micros) {
	if l.stage != stageServing {
		return
	}
	l.stage, l.removedAt, l.quietAt = stageRemoving, now, now+settlePause
	for _, it := range l.pending {
		if it.state != stateDone && it.state != stateWire {
			l.end(it, ledger.TargetRemoved)
		}
	}
	l.log.LogAttrs(ctx, slog.LevelInfo, "target being removed", slog.String("target", l.name))
}

// finished reports whether a removed target has nothing left.
func (l *loop) finished(now micros) bool {
	return len(l.pending) == 0 && now >= l.quietAt
}

func (l *loop) remove(ctx context.Context) error {
	if err := l.feed.Remove(ctx); err != nil {
		return fmt.Errorf("remove consumers of %s: %w", l.name, err)
	}
	return errRemoved
}

// receive hands class p's orders to the loop, which takes them while it has room.
func (l *loop) receive(ctx context.Context, p order.Priority) error {
	err := l.feed.Receive(ctx, p, func(d order.Delivery) {
		select {
		case l.arrivals[p] <- d:
		case <-ctx.Done():
		}
	})
	if err == nil {
		select {
		case <-l.removed: // by us: what is left to do is not to be broken off
			return nil
		default:
		}
	}
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the end of ctx is how receiving ends
	}
	if err == nil {
		err = errors.New("feed ended")
	}
	return fmt.Errorf("receive %s orders for %s: %w", p, l.name, err)
}

// drain waits for what is on the wire and records it. why is what ended serving: nil at shutdown.
// Past the deadline, or at once when the target is another process's, requests are cut off; what has
// no verdict then gets no record here.
func (l *loop) drain(ctx context.Context, cancel context.CancelFunc, why error) error {
	l.stage = stageDraining
	deadline := time.NewTimer(l.cfg.Drain)
	defer deadline.Stop()
	if !l.valid() || why != nil {
		cancel()
	}
	writable := why == nil || errors.Is(why, errRemoved)
	for l.onWire > 0 || (writable && (l.recorder.len() > 0 || len(l.recorder.writing) > 0)) {
		now := toMicros(l.clock.Now())
		if writable {
			l.flush(now)
		}
		select {
		case r := <-l.results:
			l.settle(ctx, r, now)
		case w := <-l.recorder.written:
			if err := l.recorded(w); err != nil {
				why, writable = errors.Join(why, err), false
			}
		case <-deadline.C:
			cancel()
		}
	}
	if ctx.Err() != nil && why == nil {
		return nil
	}
	return why
}
