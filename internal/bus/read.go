package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/subjects"
)

// delivery reads a message of IN or OK. A message without its body, of a headers-only consumer, yields
// an order whose body is nil and whose size is known.
func delivery(m jetstream.Msg) (order.Delivery, error) {
	meta, err := m.Metadata()
	if err != nil {
		return order.Delivery{}, err
	}
	body, headers := m.Data(), m.Headers()
	size := len(body)
	if v := headers[subjects.HeaderSize]; len(v) > 0 {
		if size, err = strconv.Atoi(v[0]); err != nil {
			return order.Delivery{}, fmt.Errorf("%w: %s", subjects.ErrHeader, subjects.HeaderSize)
		}
		body = nil
	} else if body == nil {
		body = []byte{}
	}
	o, err := subjects.DecodeOrder(headers, body)
	if err != nil {
		return order.Delivery{}, err
	}
	return order.Delivery{
		Order: o, Sequence: meta.Sequence.Stream, StoredAt: meta.Timestamp,
		Deliveries: int(meta.NumDelivered), Size: size, //nolint:gosec // a count
	}, nil
}

// bodies reads what came without its body, from one stream. It is used by one goroutine.
type bodies struct {
	link   *link
	stream string
	opened jetstream.Stream
}

const (
	// bodyTries is how often a body is asked for before its message goes back, for bodyDelay.
	bodyTries = 5
	bodyDelay = 250 * time.Millisecond
)

var errOtherOrder = errors.New("sequence holds another order")

// of reads the body of d's order.
func (b *bodies) of(ctx context.Context, d *order.Delivery) (body []byte, err error) {
	for n := range bodyTries {
		if n > 0 && !retry.Pause(ctx, retry.Backoff(n, 10*time.Millisecond, 250*time.Millisecond)) {
			break
		}
		var raw *jetstream.RawStreamMsg
		if raw, err = b.read(ctx, d.Sequence); errors.Is(err, jetstream.ErrMsgNotFound) {
			break
		}
		if err != nil {
			continue
		}
		if a, ok := subjects.AcceptOf(raw.Header); !ok || a != d.Order.Accept {
			return nil, fmt.Errorf("read %s of %s: %w", d.Order.Accept, b.stream, errOtherOrder)
		}
		return raw.Data, nil
	}
	return nil, fmt.Errorf("read %s of %s: %w", d.Order.Accept, b.stream, err)
}

func (b *bodies) read(ctx context.Context, sequence uint64) (*jetstream.RawStreamMsg, error) {
	if b.opened == nil {
		s, err := b.link.js.Stream(ctx, b.stream)
		if err != nil {
			return nil, err
		}
		b.opened = s
	}
	return b.opened.GetMsg(ctx, sequence)
}

// undecodable says once, loudly, that a message can't be read: it names no acceptance, so there is
// nobody to account for, and handing it out again can't help.
func undecodable(ctx context.Context, ms *metrics, log *slog.Logger, stage string, p order.Priority, m jetstream.Msg, cause error) {
	ms.undecodable.WithLabelValues(stage, p.String()).Inc()
	attrs := []slog.Attr{slog.String("subject", m.Subject()), slog.Any("error", cause)}
	if meta, err := m.Metadata(); err == nil {
		attrs = append(attrs, slog.String("stream", meta.Stream), slog.Uint64("sequence", meta.Sequence.Stream))
	}
	log.LogAttrs(ctx, slog.LevelError, "message can't be read and is taken off its stream", attrs...)
}
