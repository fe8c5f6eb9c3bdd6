package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/subjects"
)

const (
	stageReplay     = "replay"
	stageReplayDone = "replay_done"

	// replayBatch is how many marked orders are taken at a time, replayFinishing how many are being
	// recorded beside the one that is validated.
	replayBatch     = 32
	replayFinishing = 32
	replayWait      = 2 * time.Second
	replayRetry     = 200 * time.Millisecond
	replayPoll      = 20 * time.Millisecond
)

// replayLane is the connection of everything that marked replays do: they stand in front of nobody.
func replayLane() lane { return lane{use: useScan, priority: order.PriorityLow} }

// PublishReplay stores a marked order, like Publish, but where no live consumer sees it.
func (b *Bus) PublishReplay(ctx context.Context, o *order.Order) (order.Receipt, error) {
	l, err := b.links.link(replayLane())
	if err != nil {
		return order.Receipt{}, fmt.Errorf("publish %s: %w: %w", o.ID, order.ErrUnavailable, err)
	}
	subject := subjects.ReplayIn(o.Priority, subjects.Partition(o, b.topo.Partitions))
	return b.publish(ctx, l, stageReplay, o.Priority, message(subject, subjects.ReplayMsgID(o), o))
}

// RecordReplay stores the terminal record of a marked order. It tries until ctx ends; a repeat of the
// same acceptance is stored once.
func (b *Bus) RecordReplay(ctx context.Context, o *order.Order, entry []byte) error {
	l, err := b.links.link(replayLane())
	if err != nil {
		return fmt.Errorf("record %s: %w: %w", o.Accept, order.ErrUnavailable, err)
	}
	msg := &nats.Msg{Subject: subjects.ReplayDone(o.Priority), Data: entry, Header: nats.Header{
		jetstream.MsgIDHeader: {subjects.ReplayDoneMsgID(o.Accept)},
	}}
	_, err = b.insist(ctx, l, stageReplayDone, o.Priority, msg)
	return err
}

// PutReplayRefusal makes a marked order's refusal known to every replay door.
func (b *Bus) PutReplayRefusal(ctx context.Context, id order.ID, r *order.Reason) error {
	err := b.put(ctx, subjects.BucketRefusals, subjects.ReplayRefusal(id), appendReason(nil, r))
	if judge(err) == fateFull {
		b.m.lostRefusals.Inc()
		return nil
	}
	return err
}

// ReplayRefusal returns why a marked order was refused within the duplicate window; nil, nil when it
// was not.
func (b *Bus) ReplayRefusal(ctx context.Context, id order.ID) (*order.Reason, error) {
	kv, err := b.bucket(ctx, subjects.BucketRefusals)
	if err != nil {
		return nil, err
	}
	e, err := kv.Get(ctx, subjects.ReplayRefusal(id))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil //nolint:nilnil // documented: none
	}
	if err != nil {
		return nil, fmt.Errorf("look up refusal of %s: %w", id, err)
	}
	return decodeReason(e.Value())
}

// AwaitReplayRefusal waits until the marked order is refused or ctx ends; nil, nil when it was not.
func (b *Bus) AwaitReplayRefusal(ctx context.Context, id order.ID) (*order.Reason, error) {
	for {
		if r, err := b.ReplayRefusal(ctx, id); err == nil && r != nil {
			return r, nil
		}
		if !retry.Pause(ctx, replayPoll) {
			return nil, nil //nolint:nilnil // documented: not refused in time
		}
	}
}

// ConsumeReplay hands out marked orders until ctx ends, one at a time: replays have one place,
// whatever the live orders have. h and finish are those of ConsumeIn; nothing goes before a replay in
// its place, so yield does nothing.
func (b *Bus) ConsumeReplay(ctx context.Context, h func(ctx context.Context, d order.Delivery, yield func()) (finish func(context.Context) error, err error)) error {
	for n := 0; ctx.Err() == nil; n++ {
		err := b.consumeReplay(ctx, h, func() { n = 0 })
		if err != nil && ctx.Err() == nil {
			b.log.LogAttrs(ctx, slog.LevelWarn, "consumer of replays is opened again", slog.Any("error", err))
		}
		retry.Pause(ctx, retry.Backoff(n, 100*time.Millisecond, topologyTick))
	}
	return nil
}

func (b *Bus) consumeReplay(ctx context.Context, h func(context.Context, order.Delivery, func()) (func(context.Context) error, error), works func()) error {
	l, err := b.links.link(replayLane())
	if err != nil {
		return err
	}
	c, err := l.js.CreateOrUpdateConsumer(ctx, subjects.StreamReplay, subjects.ReplayConsumer())
	if err != nil {
		return fmt.Errorf("consume replays: %w", err)
	}
	var finishing errgroup.Group
	finishing.SetLimit(replayFinishing)
	defer func() { _ = finishing.Wait() }()
	for ctx.Err() == nil {
		batch, err := c.Fetch(replayBatch, jetstream.FetchMaxWait(replayWait))
		if err != nil {
			return fmt.Errorf("consume replays: %w", err)
		}
		for m := range batch.Messages() {
			if ctx.Err() != nil {
				_ = m.Nak() // not begun: another process may have it
				continue
			}
			works()
			b.handleReplay(ctx, m, h, &finishing)
		}
		if err := batch.Error(); err != nil && !errors.Is(err, nats.ErrTimeout) && !errors.Is(err, jetstream.ErrNoMessages) {
			return fmt.Errorf("consume replays: %w", err)
		}
	}
	return nil
}

// handleReplay decides about one marked order and sees to its end.
func (b *Bus) handleReplay(ctx context.Context, m jetstream.Msg, h func(context.Context, order.Delivery, func()) (func(context.Context) error, error), finishing *errgroup.Group) {
	meta, err := m.Metadata()
	if err != nil {
		return // no delivery of a stream: there is nothing to acknowledge
	}
	o, err := subjects.DecodeOrder(m.Headers(), m.Data())
	if err != nil {
		b.log.LogAttrs(ctx, slog.LevelWarn, "a replayed message can't be read as an order", slog.Uint64("sequence", meta.Sequence.Stream))
		_ = m.Term()
		return
	}
	d := order.Delivery{
		Order: o, Sequence: meta.Sequence.Stream, StoredAt: meta.Timestamp, Deliveries: int(meta.NumDelivered), //nolint:gosec // a count
		Seen: meta.NumDelivered > 1, Size: len(o.Body),
	}
	finish, err := h(ctx, d, func() {})
	if finish == nil {
		settleReplay(m, err)
		return
	}
	finishing.Go(func() error {
		settleReplay(m, finish(ctx))
		return nil
	})
}

// settleReplay turns a verdict into an acknowledgement: nil and a refusal end the order.
func settleReplay(m jetstream.Msg, err error) {
	if err == nil || order.AsReason(err) != nil {
		_ = m.Ack() // lost: it comes back, and its record is stored once
		return
	}
	delay, ok := retry.Delay(err)
	if !ok {
		delay = replayRetry
	}
	_ = m.NakWithDelay(delay)
}
