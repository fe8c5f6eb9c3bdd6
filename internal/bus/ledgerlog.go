package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// LogSpan is what a stream holds, and which one it is.
type LogSpan struct {
	First, Last uint64    // sequences; Last is zero when there never was a message
	Created     time.Time // another stream of the same name has another
}

// ErrNoLog is returned when there is no such stream.
var ErrNoLog = errors.New("no such stream")

// LogSpan tells what a stream holds now. ErrNoLog when there is none.
func (b *Bus) LogSpan(ctx context.Context, stream string) (LogSpan, error) {
	l, err := b.links.link(lane{use: useScan})
	if err != nil {
		return LogSpan{}, fmt.Errorf("look at %s: %w", stream, err)
	}
	s, err := l.js.Stream(ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return LogSpan{}, fmt.Errorf("%w: %s", ErrNoLog, stream)
	}
	if err != nil {
		return LogSpan{}, fmt.Errorf("look at %s: %w", stream, err)
	}
	i := s.CachedInfo()
	return LogSpan{First: i.State.FirstSeq, Last: i.State.LastSeq, Created: i.Created}, nil
}

// LedgerBatch is one stored batch of terminal records.
type LedgerBatch struct {
	Sequence uint64
	Subject  string
	Batch    []byte
	StoredAt time.Time
}

// LedgerFrom calls f with every batch of DONE or REJECTED from a sequence on, stored since, up to
// sequence last, in order. An error of f ends it.
func (b *Bus) LedgerFrom(ctx context.Context, stream string, from, last uint64, since time.Time, f func(LedgerBatch) error) error {
	l, err := b.links.link(lane{use: useScan})
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	cfg := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(from, 1)}
	if !since.IsZero() && from <= 1 {
		cfg = jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &since}
	}
	c, err := l.js.OrderedConsumer(ctx, stream, cfg)
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	if c.CachedInfo().NumPending == 0 {
		return nil
	}
	it, err := c.Messages()
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	defer it.Stop()
	for {
		m, err := it.Next(jetstream.NextContext(ctx))
		if errors.Is(err, jetstream.ErrNoHeartbeat) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", stream, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read %s: %w", stream, err)
		}
		at := meta.Sequence.Stream
		if at <= last && !meta.Timestamp.Before(since) {
			if err := f(LedgerBatch{Sequence: at, Subject: m.Subject(), Batch: m.Data(), StoredAt: meta.Timestamp}); err != nil {
				return err
			}
		}
		if at >= last || meta.NumPending == 0 {
			return nil
		}
	}
}
