package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/subjects"
)

const (
	// tryTimeout bounds the wait for one acknowledgement, publishBudget all tries of one call.
	tryTimeout    = time.Second
	publishBudget = 2 * time.Second
)

// Codes of the JetStream API that the client library does not name.
const (
	codeInsufficient   = 10023 // insufficient resources
	codeMemoryExceeded = 10028
	codeStoreExceeded  = 10047
	codeStoreFailed    = 10077 // "maximum bytes exceeded", but also any failed write
	codeInProcess      = 10158 // the same message id is being stored right now
)

// fate is what is known about a publish.
type fate uint8

const (
	fateStored  fate = iota + 1
	fateUnknown      // perhaps stored: ask again with the same id
	fateFull         // not stored, no room
	fateRefused      // not stored, and never will be
)

// Publish stores o on IN and returns after the acknowledgement. An order with the same id that was
// stored within the duplicate window is not stored again: Receipt.Duplicate, with the sequence of
// the first. The error wraps order.ErrFull when there is no room, order.ErrUnavailable when after
// two seconds nobody can say whether o is stored.
func (b *Bus) Publish(ctx context.Context, o *order.Order) (order.Receipt, error) {
	l, err := b.links.link(lane{useDoor, o.Priority})
	if err != nil {
		return order.Receipt{}, fmt.Errorf("publish %s: %w: %w", o.ID, order.ErrUnavailable, err)
	}
	subject := subjects.In(o.Priority, subjects.Partition(o, b.topo.Partitions))
	tapped, at := b.tap.in(o), b.Now()
	r, err := b.publish(ctx, l, stageIn, o.Priority, message(subject, subjects.InMsgID(o), o))
	b.tap.settled(tapped, o.Priority, r, at, err)
	return r, err
}

// PublishOK stores o on OK. While the store is full or away it holds o and tries again until ctx
// ends: an order that was accepted is never handed back for want of room (CORRECTNESS 8).
func (b *Bus) PublishOK(ctx context.Context, o *order.Order) (order.Receipt, error) {
	l, err := b.links.link(lane{useStore, o.Priority})
	if err != nil {
		return order.Receipt{}, fmt.Errorf("publish %s: %w: %w", o.ID, order.ErrUnavailable, err)
	}
	subject := subjects.OK(o.Origin, o.Priority, subjects.Partition(o, b.topo.Partitions))
	at := b.Now()
	r, err := b.insist(ctx, l, stageOK, o.Priority, message(subject, subjects.OKMsgID(o), o))
	if err == nil && !r.Duplicate && b.Now().Sub(at) < publishBudget { // else it may have been stored long ago
		b.tap.out(o, r.Sequence, at)
	}
	return r, err
}

// RecordRejected stores the terminal record of an order that ended before OK, and its trail. It
// tries until ctx ends; a repeat of the same acceptance is stored once.
func (b *Bus) RecordRejected(ctx context.Context, o *order.Order, entry []byte) error {
	l, err := b.links.link(lane{use: useLedger})
	if err != nil {
		return fmt.Errorf("record %s: %w: %w", o.Accept, order.ErrUnavailable, err)
	}
	msg := &nats.Msg{Subject: subjects.Rejected(o.Priority), Data: entry, Header: nats.Header{
		jetstream.MsgIDHeader: {subjects.RejectedMsgID(o.Accept)},
	}}
	if t := subjects.EncodeTrail(o); t != "" {
		msg.Header[subjects.HeaderTrail] = []string{t}
	}
	_, err = b.insist(ctx, l, stageRejected, o.Priority, msg)
	return err
}

func message(subject, id string, o *order.Order) *nats.Msg {
	h := subjects.EncodeOrder(o)
	h[jetstream.MsgIDHeader] = []string{id}
	return &nats.Msg{Subject: subject, Header: h, Data: o.Body}
}

// insist publishes until the message is stored, refused for good, or ctx ends.
func (b *Bus) insist(ctx context.Context, l *link, stage string, p order.Priority, msg *nats.Msg) (order.Receipt, error) {
	for n := 0; ; n++ {
		r, err := b.publish(ctx, l, stage, p, msg)
		if err == nil || !errors.Is(err, order.ErrFull) && !errors.Is(err, order.ErrUnavailable) {
			return r, err
		}
		if !retry.Pause(ctx, retry.Backoff(n, 20*time.Millisecond, time.Second)) {
			return r, err
		}
	}
}

// publish sends msg until its fate is known or publishBudget is spent.
func (b *Bus) publish(ctx context.Context, l *link, stage string, p order.Priority, msg *nats.Msg) (order.Receipt, error) {
	start := time.Now()
	for n := 0; ; n++ {
		ack, err := request(ctx, l.nc, msg, min(tryTimeout, publishBudget-time.Since(start)))
		switch judge(err) {
		case fateStored:
			b.m.published.WithLabelValues(stage, p.String()).Observe(time.Since(start).Seconds())
			if ack.Duplicate {
				b.m.duplicates.WithLabelValues(stage, p.String()).Inc()
			}
			return order.Receipt{Duplicate: ack.Duplicate, Sequence: ack.Sequence}, nil
		case fateFull:
			b.m.full.WithLabelValues(stage, p.String()).Inc()
			return order.Receipt{}, fmt.Errorf("publish to %s: %w: %w", msg.Subject, order.ErrFull, err)
		case fateRefused:
			return order.Receipt{}, fmt.Errorf("publish to %s: %w", msg.Subject, err)
		case fateUnknown:
			wait := retry.Backoff(n, 10*time.Millisecond, 250*time.Millisecond)
			if time.Since(start)+wait >= publishBudget || !retry.Pause(ctx, wait) {
				b.m.unavailable.WithLabelValues(stage, p.String()).Inc()
				return order.Receipt{}, fmt.Errorf("publish to %s: %w: %w", msg.Subject, order.ErrUnavailable, err)
			}
			b.m.retries.WithLabelValues(stage, p.String()).Inc()
		}
	}
}

// request sends msg once and waits for its acknowledgement. Requests share their connection's one
// reply subscription, so a thousand callers cost a thousand map entries, not subscriptions.
func request(ctx context.Context, nc *nats.Conn, msg *nats.Msg, timeout time.Duration) (pubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	resp, err := nc.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return pubAck{}, err
	}
	return parseAck(resp.Data)
}

// judge says what an error tells about the message. What nobody refused is unknown: a wrong
// "not stored" loses an order or stores it twice, a wrong "unknown" costs one more try.
func judge(err error) fate {
	var api *jetstream.APIError
	switch {
	case err == nil:
		return fateStored
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrBadSubject):
		return fateRefused
	case !errors.As(err, &api):
		return fateUnknown
	}
	switch api.ErrorCode { //nolint:exhaustive // every other code is judged by its class below
	case codeInsufficient, codeMemoryExceeded, codeStoreExceeded:
		return fateFull
	case codeStoreFailed:
		if strings.Contains(api.Description, "maximum") {
			return fateFull
		}
		return fateUnknown
	case codeInProcess:
		return fateUnknown
	}
	if api.Code >= 500 {
		return fateUnknown
	}
	return fateRefused
}
