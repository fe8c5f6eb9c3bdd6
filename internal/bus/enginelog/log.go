package enginelog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"millrace/internal/engineapi/record"
	"millrace/internal/retry"
	"millrace/subjects"
)

const (
	// readPatience is how long the bus may be away until Read gives up.
	readPatience = 30 * time.Second
	// backtrack is how far before a part of a record its first part is looked for, beside the parts: other
	// records can be between them only when two doors wrote.
	backtrack = 256
)

// Reader makes Logs that share their series.
type Reader struct {
	bus Bus
	log *slog.Logger
	m   *readMetrics
}

// NewReader returns a Reader on b. reg gets the millrace_engine_read… series.
func NewReader(b Bus, log *slog.Logger, reg prometheus.Registerer) *Reader {
	return &Reader{bus: b, log: log, m: newReadMetrics(reg)}
}

// Log is the record of the Engine API as one execution client's replayer reads it. Read and Follow are
// independent of each other; at most one Follow runs at a time, in any process.
type Log struct {
	r      *Reader
	target string
	lost   func(Loss)
}

// Log returns the log for the named execution client; without a name it can only be read. lost, which
// may be nil, is told of what can't be handed out, in its place in the order.
func (r *Reader) Log(target string, lost func(Loss)) (*Log, error) {
	if target != "" && !subjects.ValidName(target) {
		return nil, fmt.Errorf("execution client %.40q: %w", target, ErrName)
	}
	if lost == nil {
		lost = func(Loss) {}
	}
	return &Log{r: r, target: target, lost: lost}, nil
}

// Span is what the stream holds: sequences, and when the first and the last of them were stored. Of an empty
// stream First is Last + 1.
type Span struct {
	First, Last     uint64
	Messages, Bytes uint64
	FirstAt, LastAt time.Time
}

// Span tells what is recorded now. ErrNoLog when nothing is.
func (l *Log) Span(ctx context.Context) (Span, error) {
	_, s, err := l.r.stream(ctx)
	if err != nil {
		return Span{}, err
	}
	st := s.CachedInfo().State
	return Span{
		First: max(st.FirstSeq, 1), Last: st.LastSeq, Messages: st.Msgs, Bytes: st.Bytes, FirstAt: st.FirstTime, LastAt: st.LastTime,
	}, nil
}

// First is the sequence of the oldest message that is there, Last that of the newest. What a reader wants
// from before First was dropped.
func (l *Log) First(ctx context.Context) (uint64, error) {
	s, err := l.Span(ctx)
	return s.First, err
}

// Last is the sequence of the newest message that was stored; zero when there was none.
func (l *Log) Last(ctx context.Context) (uint64, error) {
	s, err := l.Span(ctx)
	return s.Last, err
}

// At is the sequence of the first message that was stored at or after t; behind the last one if there is none.
func (l *Log) At(ctx context.Context, t time.Time) (uint64, error) {
	js, s, err := l.r.stream(ctx)
	if err != nil {
		return 0, err
	}
	c, err := s.CreateConsumer(ctx, jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: scanIdle,
		DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &t, HeadersOnly: true,
	})
	if err != nil {
		return 0, fmt.Errorf("seek in engine log: %w", err)
	}
	defer discard(ctx, js, s, c)
	b, err := c.FetchNoWait(1)
	if err != nil {
		return 0, fmt.Errorf("seek in engine log: %w", err)
	}
	for m := range b.Messages() {
		if meta, err := m.Metadata(); err == nil {
			return meta.Sequence.Stream, nil
		}
	}
	if err := harmless(b.Error()); err != nil {
		return 0, fmt.Errorf("seek in engine log: %w", err)
	}
	return s.CachedInfo().State.LastSeq + 1, nil
}

func (r *Reader) stream(ctx context.Context) (jetstream.JetStream, jetstream.Stream, error) {
	nc, err := r.bus.EngineReplay()
	if err != nil {
		return nil, nil, fmt.Errorf("read engine log: %w", err)
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(ackTimeout))
	if err != nil {
		return nil, nil, fmt.Errorf("read engine log: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, ackTimeout) // whatever the caller's: one without a responder is not answered
	defer cancel()
	s, err := js.Stream(ctx, subjects.StreamEngine)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil, ErrNoLog
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read engine log: %w", err)
	}
	return js, s, nil
}

// Read calls f with every entry from a sequence on, up to what is stored when the reading begins, in the
// stream's order. An entry's sequence is that of its last message, so from may be an entry's own: then
// it is the first. f may take as long as it likes; its error ends the reading and is returned as it is.
//
// A bus that is away is waited for, at most 30 s; nothing is skipped or told twice over it.
func (l *Log) Read(ctx context.Context, from uint64, f func(record.Entry) error) error {
	_, s, err := l.r.stream(ctx)
	if err != nil {
		return err
	}
	rd := l.reading(ctx, from, f)
	return rd.through(ctx, s.CachedInfo().State.LastSeq)
}

// reading is one reading of the log, over as many consumers as it takes.
type reading struct {
	l      *Log
	f      func(record.Entry) error
	next   uint64
	parts  assembler
	failed bool // the error is f's, final
}

func (l *Log) reading(ctx context.Context, from uint64, f func(record.Entry) error) *reading {
	rd := &reading{l: l, f: f, next: max(from, 1)}
	rd.parts.lost = func(loss Loss) {
		l.r.m.missing[loss.Reason].Inc()
		l.r.log.LogAttrs(ctx, slog.LevelWarn, "engine records are missing", slog.String("target", l.target),
			slog.String("reason", loss.Reason.String()), slog.Uint64("from", loss.From), slog.Uint64("to", loss.To))
		l.lost(loss)
	}
	return rd
}

// through reads until a sequence, over interruptions.
func (rd *reading) through(ctx context.Context, until uint64) error {
	lost := time.Time{}
	for n := 0; rd.next <= until; n++ {
		before := rd.next
		err := rd.read(ctx, until)
		switch {
		case err == nil, rd.failed:
			return err
		case ctx.Err() != nil:
			return fmt.Errorf("read engine log: %w", ctx.Err())
		}
		if rd.next != before || lost.IsZero() {
			n, lost = 0, time.Now()
		}
		if time.Since(lost) > readPatience {
			return fmt.Errorf("read engine log: %w", err)
		}
		rd.l.r.m.reopened.Inc()
		retry.Pause(ctx, retry.Backoff(n, retryLeast, retryMost))
	}
	return nil
}

// read goes on from next. Any error but f's may be tried again.
func (rd *reading) read(ctx context.Context, until uint64) error {
	js, s, err := rd.l.r.stream(ctx)
	if err != nil {
		return err
	}
	rd.arrive(s.CachedInfo().State)
	return scan(ctx, js, s, scanRange{from: rd.next, until: until, bodies: withBodies}, func(m jetstream.Msg, seq uint64) error {
		return rd.message(ctx, m, seq)
	})
}

// arrive skips what the stream has dropped, and says so.
func (rd *reading) arrive(st jetstream.StreamState) {
	if st.FirstSeq <= rd.next || st.LastSeq < rd.next {
		return
	}
	rd.parts.lost(Loss{Reason: LossRetention, From: rd.next, To: st.FirstSeq - 1})
	rd.next = st.FirstSeq
}

// message hands on what m completes.
func (rd *reading) message(ctx context.Context, m jetstream.Msg, seq uint64) error {
	meta, err := m.Metadata()
	if err != nil {
		return fmt.Errorf("read engine log: %w", err)
	}
	at := stored{sequence: seq, at: meta.Timestamp, header: m.Headers(), body: m.Data()}
	if id, ok := rd.parts.misses(at); ok {
		if err := rd.recall(ctx, id, seq); err != nil {
			return err
		}
	}
	if e, ok := rd.parts.take(at); ok {
		if err := rd.f(e); err != nil {
			rd.failed = true
			return err
		}
	}
	rd.next = seq + 1
	return nil
}

// recall reads the parts of a record that came before the one at a sequence, where the reading began
// behind them: those right before it, or farther ahead if others wrote in between.
func (rd *reading) recall(ctx context.Context, id subjects.EngineMessage, seq uint64) error {
	js, s, err := rd.l.r.stream(ctx)
	if err != nil {
		return err
	}
	before := uint64(id.Index) - 1 //nolint:gosec // at least one, at most MaxChunks
	for _, back := range []uint64{before, before + backtrack} {
		rd.parts.forget(id) // all of them, or none: an interrupted look is no beginning
		r := scanRange{from: seq - min(back, seq-1), until: seq - 1, bodies: withBodies}
		err := scan(ctx, js, s, r, func(m jetstream.Msg, seq uint64) error {
			meta, err := m.Metadata()
			if err != nil {
				return fmt.Errorf("look for parts: %w", err)
			}
			rd.parts.recall(id, stored{sequence: seq, at: meta.Timestamp, header: m.Headers(), body: m.Data()})
			return nil
		})
		if err != nil {
			rd.parts.forget(id)
			return err
		}
		if rd.parts.lacks(id) == 0 {
			return nil
		}
	}
	return nil
}
