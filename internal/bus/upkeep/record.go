package upkeep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/subjects"
)

// headerSource is what the server puts on a sourced message: the origin stream, its sequence, and
// more that is of no interest here.
const headerSource = "Nats-Stream-Source"

// upToDate is the cursor of a source that has nothing to copy, which holds at this moment only.
const upToDate = unboundedSequence - 1

// recording is RECORD as one round of Purge finds it.
type recording struct {
	stream jetstream.Stream
	paused bool
}

// gap is the range of an IN stream that was purged while RECORD was paused.
type gap struct{ first, last uint64 }

// copied is what was known last of how far RECORD has copied an IN stream.
type copied struct {
	record time.Time // when the RECORD was made that has it
	to     uint64
}

// record returns RECORD, or nil when there is none.
func (p *Purge) record(ctx context.Context) (*recording, error) {
	if !p.cfg.Record {
		return nil, nil //nolint:nilnil // no recording is not an error
	}
	stream, err := p.js.Stream(ctx, subjects.StreamRecord)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil //nolint:nilnil // as above
	}
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", subjects.StreamRecord, err)
	}
	return &recording{stream: stream, paused: p.cfg.RecordPaused()}, nil
}

// recorded lowers `to` to what RECORD has copied of IN; a paused RECORD does not hold purging, but
// what it will lack is counted.
func (p *Purge) recorded(ctx context.Context, s *purgeStream, r *recording, to uint64, in *jetstream.StreamInfo) (uint64, error) {
	if r == nil {
		return to, nil
	}
	cursor, err := r.copiedTo(ctx, s, to)
	if err != nil {
		return 0, err
	}
	p.metrics.lag.WithLabelValues(s.priority.String()).Set(float64(r.lag(s, in.State.LastSeq-min(in.State.LastSeq, cursor))))
	if !r.paused {
		p.endGap(ctx, s)
		return min(to, cursor), nil
	}
	from := max(cursor+1, s.gap.last+1, in.State.FirstSeq)
	if to < from || in.State.Msgs == 0 {
		return to, nil
	}
	if s.gap.first == 0 {
		s.gap.first = from
		p.log.LogAttrs(ctx, slog.LevelWarn, "recording gap begins",
			slog.String("stream", s.name), slog.Uint64("first", from))
	}
	s.gap.last = to
	p.metrics.gap.WithLabelValues(s.priority.String()).Add(float64(to + 1 - from))
	return to, nil
}

// endGap reports the range that RECORD lacks, once recording goes on.
func (p *Purge) endGap(ctx context.Context, s *purgeStream) {
	if s.gap.first == 0 {
		return
	}
	p.log.LogAttrs(ctx, slog.LevelWarn, "recording gap ends", slog.String("stream", s.name),
		slog.Uint64("first", s.gap.first), slog.Uint64("last", s.gap.last))
	s.gap = gap{}
}

// copiedTo returns the last sequence of IN that RECORD is known to have. It asks only when what it knows is less
// than what is wanted: a block of RECORD that was read is not written over in memory, but replaced (docs/adr/0017).
func (r *recording) copiedTo(ctx context.Context, s *purgeStream, wanted uint64) (uint64, error) {
	made := r.stream.CachedInfo().Created
	if !r.paused && s.copied.record.Equal(made) && s.copied.to >= wanted {
		return s.copied.to, nil
	}
	to, err := r.cursor(ctx, s)
	if err == nil && to < upToDate {
		s.copied = copied{record: made, to: to}
	}
	return to, err
}

// lag is how many messages of IN RECORD has not copied, as its source says; known without one.
func (r *recording) lag(s *purgeStream, known uint64) uint64 {
	for _, src := range r.stream.CachedInfo().Sources {
		if src.Name == s.name {
			return src.Lag
		}
	}
	return known
}

// cursor returns the last sequence of IN that RECORD has. The state of a source tells how far it is
// behind, but not since when that is true; the last copied message tells for certain. Without any,
// a source that was heard of and has nothing to copy is up to date.
func (r *recording) cursor(ctx context.Context, s *purgeStream) (uint64, error) {
	m, err := r.stream.GetLastMsgForSubject(ctx, "orders.in."+s.priority.String()+".*")
	switch {
	case err == nil:
		return sourcedSequence(m.Header.Get(headerSource), s.name)
	case !errors.Is(err, jetstream.ErrMsgNotFound):
		return 0, fmt.Errorf("read cursor of %s: %w", subjects.StreamRecord, err)
	}
	for _, src := range r.stream.CachedInfo().Sources {
		if src.Name == s.name && src.Lag == 0 && src.Active >= 0 && src.Active < sourceSilence {
			return upToDate, nil
		}
	}
	return 0, nil
}

// sourcedSequence reads the origin's sequence out of a source header.
func sourcedSequence(header, stream string) (uint64, error) {
	name, rest, _ := strings.Cut(header, " ")
	number, _, _ := strings.Cut(rest, " ")
	seq, err := strconv.ParseUint(number, 10, 64)
	if err != nil || name != stream {
		return 0, fmt.Errorf("source header %q of a message from %s", header, stream)
	}
	return seq, nil
}
