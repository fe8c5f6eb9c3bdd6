package enginelog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// bodies says whether a scan brings them.
type bodies uint8

const (
	withBodies bodies = iota + 1
	headersOnly
)

// scanRange is a stretch of a stream, both ends included.
type scanRange struct {
	from, until uint64
	bodies      bodies
}

const (
	// scanBatch and scanBytes bound what one fetch brings, scanWait how long it takes. It asks for what is known to be
	// there, so it ends before, but on a machine that is far too busy.
	scanBatch = 512
	scanBytes = 8 << 20
	scanWait  = 5 * time.Second
	// scanIdle is how long the server keeps a reader that asks for nothing; one that was held up for longer by
	// whom it reads for is made again.
	scanIdle = 30 * time.Second
)

// errBehind: this copy of the stream does not have all of it yet.
var errBehind = errors.New("this copy of the stream is behind")

// scan calls f with each message of the range that is there, in order. f may take as long as it
// likes. Its error ends the scan and is returned as it is; any other leaves the rest to a new scan.
func scan(ctx context.Context, js jetstream.JetStream, s jetstream.Stream, r scanRange, f func(m jetstream.Msg, seq uint64) error) error {
	c, err := s.CreateConsumer(ctx, jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: scanIdle,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(r.from, 1), HeadersOnly: r.bodies == headersOnly,
	})
	if err != nil {
		return fmt.Errorf("open reader: %w", err)
	}
	defer discard(ctx, js, s, c)
	sc := &scanner{r: r, f: f, next: max(r.from, 1)}
	for sc.next <= r.until {
		n, err := sc.batch(ctx, c)
		if err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		info, err := c.Info(ctx)
		if err != nil {
			return fmt.Errorf("ask reader: %w", err)
		}
		if info.Delivered.Consumer > sc.taken {
			return errMissed
		}
		if info.NumPending == 0 {
			return ended(ctx, s, sc.next, r.until)
		}
	}
	return nil
}

// discard deletes the consumer; one that stays because the server is away goes by scanIdle.
func discard(ctx context.Context, js jetstream.JetStream, s jetstream.Stream, c jetstream.Consumer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ackTimeout)
	defer cancel()
	_ = js.DeleteConsumer(ctx, s.CachedInfo().Config.Name, c.CachedInfo().Name)
}

// ended decides about a reader that has nothing more: the rest of the range is gone from the stream, or
// its copy is behind the others.
func ended(ctx context.Context, s jetstream.Stream, next, until uint64) error {
	info, err := s.Info(ctx)
	if err != nil {
		return fmt.Errorf("ask stream: %w", err)
	}
	if info.State.FirstSeq > until || info.State.NumDeleted > 0 || info.State.LastSeq < next {
		return nil
	}
	return errBehind
}

// scanner is one reading over one consumer.
type scanner struct {
	r     scanRange
	f     func(jetstream.Msg, uint64) error
	next  uint64 // of the stream
	taken uint64 // of the consumer; a gap means that a message got lost
}

// batch reads what one fetch brings. The fetch has room for all that it asked for, so a slow f loses nothing.
func (sc *scanner) batch(ctx context.Context, c jetstream.Consumer) (n int, err error) {
	fctx, cancel := context.WithTimeout(ctx, scanWait+time.Second) // the library keeps a second of it for itself
	defer cancel()
	count := int(min(scanBatch, sc.r.until-sc.next+1))
	b, err := c.Fetch(count, jetstream.FetchContext(fctx), jetstream.FetchMaxBytes(scanBytes))
	if err != nil {
		return 0, fmt.Errorf("read: %w", err)
	}
	for m := range b.Messages() {
		n++
		if err == nil && sc.next <= sc.r.until {
			err = sc.take(ctx, m)
		}
		if err != nil || sc.next > sc.r.until {
			cancel() // the rest is of no use
		}
	}
	if err != nil || sc.next > sc.r.until {
		return n, err
	}
	return n, harmless(b.Error())
}

func (sc *scanner) take(ctx context.Context, m jetstream.Msg) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	meta, err := m.Metadata()
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if meta.Sequence.Consumer != sc.taken+1 {
		return errMissed
	}
	sc.taken++
	seq := meta.Sequence.Stream
	if seq > sc.r.until {
		sc.next = seq
		return nil
	}
	if err := sc.f(m, seq); err != nil {
		return err
	}
	sc.next = seq + 1
	return nil
}

// harmless is nil for the ends of a fetch that mean no more than that it ended.
func harmless(err error) error {
	for _, end := range []error{
		context.DeadlineExceeded, nats.ErrTimeout, jetstream.ErrBatchCompleted, jetstream.ErrMaxBytesExceeded, jetstream.ErrNoMessages,
	} {
		if errors.Is(err, end) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	return nil
}
