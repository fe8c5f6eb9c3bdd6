package bus

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/subjects"
)

// receiver is one Receive: it belongs to one goroutine.
type receiver struct {
	feed   *Feed
	class  order.Priority
	handle func(order.Delivery)
}

// take hands out a message, after those before it that never arrived.
func (r *receiver) take(ctx context.Context, m jetstream.Msg) news {
	f, c := r.feed, &r.feed.classes[r.class]
	f.bus.m.delivered.WithLabelValues(stageOK, r.class.String()).Inc()
	c.mu.Lock()
	c.ack.learn(m.Reply())
	c.mu.Unlock()
	meta, err := m.Metadata()
	if err != nil {
		undecodable(ctx, f.bus.m, f.bus.log, stageOK, r.class, m, err)
		return newsFresh
	}
	seq := meta.Sequence.Stream
	if c.next != 0 && seq > c.next && !r.follows(meta.Sequence.Consumer) {
		r.repair(ctx, seq)
	}
	c.turn = meta.Sequence.Consumer
	c.next = max(c.next, seq+1)
	if meta.NumDelivered > 1 {
		f.bus.m.redelivered.WithLabelValues(stageOK, r.class.String()).Inc()
	}
	if subjects.IsVoid(m.Subject()) {
		_ = f.Ack(r.class, seq) // lost: comes again and is acked then
		return newsFresh
	}
	if r.matched(m, seq) {
		return newsKnown
	}
	d, err := delivery(m)
	if err != nil {
		undecodable(ctx, f.bus.m, f.bus.log, stageOK, r.class, m, err)
		_ = f.Ack(r.class, seq)
		return newsFresh
	}
	r.handle(d)
	return newsFresh
}

// follows reports whether a message of the given turn came right behind the last one, so that what the stream has
// between them is not the target's: looking for it, for each of them, would cost a request. To a target that is owed
// everything it is the target's, whatever the turns say.
func (r *receiver) follows(turn uint64) bool {
	c := &r.feed.classes[r.class]
	return r.feed.scope == order.ScopeLocal && c.turn != 0 && turn == c.turn+1
}

// idle learns from the consumer's state what the server believes to have delivered.
func (r *receiver) idle(ctx context.Context, info *jetstream.ConsumerInfo) {
	if c := &r.feed.classes[r.class]; c.next != 0 && info.Delivered.Stream >= c.next {
		r.repair(ctx, info.Delivered.Stream+1)
	}
}

// repair reads what lies between the next expected sequence and until, and hands it out.
func (r *receiver) repair(ctx context.Context, until uint64) {
	f, c := r.feed, &r.feed.classes[r.class]
	for n := 0; c.next < until && ctx.Err() == nil; {
		raw, err := r.following(ctx, c.next)
		if errors.Is(err, jetstream.ErrMsgNotFound) && n < copyTries && r.behind(ctx, c.next, until) {
			err = errCopyBehind
		}
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			c.next = until
			return
		case err != nil:
			f.bus.log.LogAttrs(ctx, slog.LevelWarn, "lost orders can't be read again", slog.String("target", f.target),
				slog.String("stream", subjects.StreamOK(r.class)), slog.Uint64("sequence", c.next), slog.Any("error", err))
			retry.Pause(ctx, retry.Backoff(n, 20*time.Millisecond, time.Second))
			n++
			continue
		case raw.Sequence >= until:
			c.next = until
			return
		}
		n, c.next = 0, raw.Sequence+1
		f.bus.m.repaired.Inc()
		if subjects.IsVoid(raw.Subject) {
			_ = f.Ack(r.class, raw.Sequence)
			continue
		}
		if a, ok := subjects.AcceptOf(raw.Header); ok && r.early(raw.Sequence, a) {
			continue
		}
		d, err := reread(raw)
		if err != nil {
			f.bus.m.undecodable.WithLabelValues(stageOK, r.class.String()).Inc()
			f.bus.log.LogAttrs(ctx, slog.LevelError, "message can't be read and is taken off its stream",
				slog.String("stream", subjects.StreamOK(r.class)), slog.Uint64("sequence", raw.Sequence), slog.Any("error", err))
			_ = f.Ack(r.class, raw.Sequence)
			continue
		}
		r.handle(d)
	}
}

// following returns the first message at or after a sequence.
func (r *receiver) following(ctx context.Context, seq uint64) (*jetstream.RawStreamMsg, error) {
	s, err := r.feed.stream(ctx, r.class)
	if err != nil {
		return nil, err
	}
	return s.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(subjects.OKOf(r.feed.scope, r.class)))
}

// reread makes a delivery of a message that was read by its sequence.
func reread(raw *jetstream.RawStreamMsg) (order.Delivery, error) {
	o, err := subjects.DecodeOrder(raw.Header, raw.Data)
	if err != nil {
		return order.Delivery{}, err
	}
	return order.Delivery{
		Order: o, Sequence: raw.Sequence, StoredAt: raw.Time, Deliveries: 1, Size: len(raw.Data),
	}, nil
}
