package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/subjects"
)

// DoneLog is the ledger of one target, written by one process at a time: each batch carries the
// sequence of the one before it, so a process that lost its lease without noticing can't write
// (CORRECTNESS 11). Tail comes first.
type DoneLog struct {
	bus     *Bus
	subject string

	mu    sync.Mutex
	known bool   // Tail was read
	last  uint64 // sequence of the last batch of the subject; zero: none
}

var errLedgerUnread = errors.New("ledger has not been read")

// Done returns the ledger of a target.
func (b *Bus) Done(target string) *DoneLog {
	return &DoneLog{bus: b, subject: subjects.Done(target)}
}

// Append writes one batch and returns after its acknowledgement. While the fate of the write is
// unknown it is repeated until ctx ends (order.ErrUnavailable); order.ErrFenced means that another
// process wrote, and that this one must stop. One Append at a time.
func (l *DoneLog) Append(ctx context.Context, batch []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.known {
		return fmt.Errorf("append to %s: %w", l.subject, errLedgerUnread)
	}
	c, err := l.bus.links.link(lane{use: useLedger})
	if err != nil {
		return fmt.Errorf("append to %s: %w: %w", l.subject, order.ErrUnavailable, err)
	}
	for n := 0; ; n++ {
		err := l.write(ctx, c, batch)
		if err == nil || judge(err) == fateRefused {
			return err
		}
		l.bus.m.ledgerRetries.Inc()
		if !retry.Pause(ctx, retry.Backoff(n, 10*time.Millisecond, time.Second)) {
			return fmt.Errorf("append to %s: %w: %w", l.subject, order.ErrUnavailable, err)
		}
	}
}

// write sends the batch once. An error that wraps order.ErrFenced is final.
func (l *DoneLog) write(ctx context.Context, c *link, batch []byte) error {
	msg := &nats.Msg{Subject: l.subject, Data: batch, Header: nats.Header{
		jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(l.last, 10)},
	}}
	ack, err := request(ctx, c.nc, msg, tryTimeout)
	if err == nil {
		l.last = ack.Sequence
		return nil
	}
	if !conflict(err) {
		return err
	}
	stored, lookErr := l.latest(ctx)
	switch {
	case lookErr != nil:
		return lookErr // unknown: the next try meets the same conflict and looks again
	case stored == nil && l.last != 0:
		l.last = 0 // the last batch went by age or size; nobody else wrote
		return errLedgerAged
	case stored != nil && stored.Sequence > l.last && bytes.Equal(stored.Data, batch):
		l.last = stored.Sequence // this write, earlier; its acknowledgement was lost
		return nil
	}
	l.bus.m.fenced.Inc()
	return &fencedError{subject: l.subject, cause: err}
}

var errLedgerAged = errors.New("last batch of the ledger is gone")

// fencedError is order.ErrFenced with the server's refusal as its cause.
type fencedError struct {
	subject string
	cause   error
}

func (e *fencedError) Error() string {
	return "append to " + e.subject + ": " + order.ErrFenced.Error() + ": " + e.cause.Error()
}

func (e *fencedError) Unwrap() []error { return []error{order.ErrFenced, e.cause} }

// latest returns the subject's last message; nil, nil when there is none.
func (l *DoneLog) latest(ctx context.Context) (*jetstream.RawStreamMsg, error) {
	c, err := l.bus.links.link(lane{use: useLedger})
	if err != nil {
		return nil, err
	}
	s, err := c.js.Stream(ctx, subjects.StreamDone)
	if err != nil {
		return nil, ambiguous(err)
	}
	return l.newest(ctx, s)
}

// ambiguous hides an API error's code, so that the failure to read is not taken for the store's
// refusal of the write.
func ambiguous(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("read ledger: %s", err.Error())
}

// conflict reports whether err says that the expected last sequence is not the last one.
func conflict(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// Tail calls f with every batch of the target that was stored since, oldest first, and makes this
// process the one that writes next. An error of f ends it.
func (l *DoneLog) Tail(ctx context.Context, since time.Time, f func(batch []byte) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	last, err := l.latest(ctx)
	if err != nil {
		return fmt.Errorf("tail of %s: %w", l.subject, err)
	}
	l.last = 0
	if last != nil {
		l.last = last.Sequence
	}
	if last != nil && !last.Time.Before(since) {
		if err = l.read(ctx, since, last.Sequence, f); err != nil {
			return fmt.Errorf("tail of %s: %w", l.subject, err)
		}
	}
	l.known = true
	return nil
}

// Ledger calls f with every batch of DONE, then of REJECTED, that was stored since and up to now,
// each stream in its order. An error of f ends it.
func (b *Bus) Ledger(ctx context.Context, since time.Time, f func(subject string, batch []byte, stored time.Time) error) error {
	for _, name := range []string{subjects.StreamDone, subjects.StreamRejected} {
		if err := b.batches(ctx, name, since, f); err != nil {
			return err
		}
	}
	return nil
}

// ReplayLedger is Ledger for the records of marked replays. ErrNoLog where there can be none.
func (b *Bus) ReplayLedger(ctx context.Context, since time.Time, f func(subject string, batch []byte, stored time.Time) error) error {
	return b.batches(ctx, subjects.StreamReplayDone, since, f)
}

// batches calls f with every message of a stream that was stored since and up to now.
func (b *Bus) batches(ctx context.Context, stream string, since time.Time, f func(subject string, batch []byte, stored time.Time) error) error {
	span, err := b.LogSpan(ctx, stream)
	if err != nil {
		return err
	}
	err = b.scan(ctx, stream, "", since, span.Last, func(m jetstream.Msg) error {
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		return f(m.Subject(), m.Data(), meta.Timestamp)
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", stream, err)
	}
	return nil
}

const (
	// scanHeartbeat is how often a reader hears from the server that it reads from, which may not be the
	// one it is connected to: two that are missing mean that it is gone. By default that takes half a
	// minute, in which a target has no owner that knows what it did.
	scanHeartbeat = time.Second
	scanLinger    = 30 * time.Second // of a reader's consumer after its last request
)

// scan reads a stream in order, from a time up to a sequence.
func (b *Bus) scan(ctx context.Context, stream, filter string, since time.Time, upTo uint64, f func(jetstream.Msg) error) error {
	l, err := b.links.link(lane{use: useScan})
	if err != nil {
		return err
	}
	cfg := jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &since, InactiveThreshold: scanLinger,
	}
	if filter != "" {
		cfg.FilterSubjects = []string{filter}
	}
	c, err := l.js.OrderedConsumer(ctx, stream, cfg)
	if err != nil {
		return err
	}
	if c.CachedInfo().NumPending == 0 {
		return nil
	}
	it, err := c.Messages(jetstream.PullExpiry(4*scanHeartbeat), jetstream.PullHeartbeat(scanHeartbeat))
	if err != nil {
		return err
	}
	defer it.Stop()
	for {
		m, err := it.Next(jetstream.NextContext(ctx))
		if errors.Is(err, jetstream.ErrNoHeartbeat) {
			continue
		}
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if meta.Sequence.Stream <= upTo {
			if err := f(m); err != nil {
				return err
			}
		}
		if meta.Sequence.Stream >= upTo || meta.NumPending == 0 {
			return nil
		}
	}
}
