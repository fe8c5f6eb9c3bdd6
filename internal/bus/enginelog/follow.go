package enginelog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/engineapi/record"
	"millrace/internal/retry"
	"millrace/subjects"
)

const (
	// followBatch is what one pull asks for, followWait how long it stands, followBeat the server's sign of
	// life on it. After a pull that brought nothing the stream itself is asked.
	followBatch = subjects.EngineAckPending / 2
	followWait  = 5 * time.Second
	followBeat  = time.Second
	// followDoubts is how often in a row, over some three seconds, the stream has to be gone to count as gone.
	followDoubts = 8
)

// Follow is Read without an end: it goes on with what is stored from then on, until ctx ends or f
// fails. It acknowledges each message on the execution client's durable consumer, which it makes, and first sets
// to from, so that the consumer's floor says how far f is. f may take as long as it likes. What does not
// come on the consumer in the stream's order is read by sequence. A bus that is away is waited for.
//
// It returns f's error as it is, ctx's, ErrNoLog, or ErrOtherLife when the stream ends before what was read
// already.
func (l *Log) Follow(ctx context.Context, from uint64, f func(record.Entry) error) error {
	if l.target == "" {
		return fmt.Errorf("follow engine log: %w", ErrName)
	}
	t := &tail{rd: l.reading(ctx, from, f)}
	for n := 0; ; n++ {
		before := t.rd.next
		err := t.follow(ctx)
		if t.rd.failed || t.doubt(err) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if t.rd.next != before {
			n = 0
		}
		if n > 0 && n%20 == 0 {
			l.r.log.LogAttrs(ctx, slog.LevelWarn, "engine log can't be followed", slog.String("target", l.target), slog.Any("error", err))
		}
		l.r.m.reopened.Inc()
		retry.Pause(ctx, retry.Backoff(n, retryLeast, retryMost))
	}
}

// tail is a reading with a durable consumer.
type tail struct {
	rd *reading

	mu   sync.Mutex
	held jetstream.Msg // in hand; nil: none

	opened bool // the consumer was there once
	doubts int  // answers in a row that the stream is not what was followed
}

// doubt reports whether err says for certain that the stream is gone, or another one. Of one that was there, a
// cluster that is choosing its leaders may say so for a moment.
func (t *tail) doubt(err error) bool {
	switch {
	case errors.Is(err, ErrNoLog) && !t.opened:
		return true
	case errors.Is(err, ErrNoLog), errors.Is(err, ErrOtherLife):
		t.doubts++
	default:
		t.doubts = 0
	}
	return t.doubts >= followDoubts
}

// follow opens the consumer and reads until something is wrong.
func (t *tail) follow(ctx context.Context) error {
	js, s, err := t.rd.l.r.stream(ctx)
	if err != nil {
		return err
	}
	t.rd.arrive(s.CachedInfo().State)
	if st := s.CachedInfo().State; st.LastSeq+1 < t.rd.next {
		return otherLife(st, t.rd.next)
	}
	c, err := t.open(ctx, js)
	if err != nil {
		return fmt.Errorf("follow engine log: %w", err)
	}
	t.opened = true
	for {
		n, err := t.pull(ctx, c)
		if err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		if err := t.catchUp(ctx); err != nil {
			return err
		}
	}
}

// open makes the consumer if it is not there and sets it to what is read next.
func (t *tail) open(ctx context.Context, js jetstream.JetStream) (jetstream.Consumer, error) {
	want := subjects.EngineConsumer(t.rd.l.target)
	c, err := js.Consumer(ctx, subjects.StreamEngine, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		c, err = js.CreateConsumer(ctx, subjects.StreamEngine, want)
	}
	if err != nil {
		return nil, err
	}
	_, err = js.ResetConsumerToSequence(ctx, subjects.StreamEngine, want.Durable, t.rd.next)
	return c, err
}

// pull takes what one pull brings.
func (t *tail) pull(ctx context.Context, c jetstream.Consumer) (n int, err error) {
	fctx, cancel := context.WithTimeout(ctx, followWait+time.Second) // the library keeps a second of it for itself
	defer cancel()
	b, err := c.Fetch(followBatch, jetstream.FetchContext(fctx), jetstream.FetchHeartbeat(followBeat))
	if err != nil {
		return 0, fmt.Errorf("pull: %w", err)
	}
	working, stop := context.WithCancel(ctx)
	var beating sync.WaitGroup
	beating.Go(func() { t.beat(working) })
	defer func() {
		stop()
		beating.Wait()
	}()
	for m := range b.Messages() {
		n++
		if err == nil {
			t.hold(m)
			err = t.message(ctx, m)
			t.hold(nil)
		}
		if err != nil {
			cancel() // the rest comes again
		}
	}
	if err == nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err == nil {
		err = harmless(b.Error())
	}
	if errors.Is(err, jetstream.ErrNoHeartbeat) && n == 0 {
		return 0, nil // the stream is asked
	}
	return n, err
}

// message hands on one message of the consumer, if it is what comes next, and acknowledges it when that is
// done.
func (t *tail) message(ctx context.Context, m jetstream.Msg) error {
	meta, err := m.Metadata()
	if err != nil {
		return fmt.Errorf("follow engine log: %w", err)
	}
	seq := meta.Sequence.Stream
	switch {
	case seq < t.rd.next:
		t.rd.l.r.m.redeliver.Inc()
	case seq > t.rd.next:
		if err := t.rd.through(ctx, seq); err != nil {
			return err
		}
	default:
		if err := t.rd.message(ctx, m, seq); err != nil {
			return err
		}
	}
	return m.Ack()
}

// catchUp reads what the stream has although the consumer did not bring it.
func (t *tail) catchUp(ctx context.Context) error {
	_, s, err := t.rd.l.r.stream(ctx)
	if err != nil {
		return err
	}
	st := s.CachedInfo().State
	if st.LastSeq+1 < t.rd.next {
		return otherLife(st, t.rd.next)
	}
	return t.rd.through(ctx, st.LastSeq)
}

func otherLife(st jetstream.StreamState, next uint64) error {
	return fmt.Errorf("follow engine log: %w: it ends at %d, read until %d", ErrOtherLife, st.LastSeq, next-1)
}

func (t *tail) hold(m jetstream.Msg) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = m
}

// beat tells the server, until ctx ends, that what is in hand is being worked on.
func (t *tail) beat(ctx context.Context) {
	for retry.Pause(ctx, subjects.EngineAckWait/4) {
		t.mu.Lock()
		if t.held != nil {
			_ = t.held.InProgress() // a repeat is known for what it is
		}
		t.mu.Unlock()
	}
}
