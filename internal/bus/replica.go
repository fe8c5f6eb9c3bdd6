package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/retry"
	"millrace/subjects"
)

// A stream with replicas is read at any copy of it, and a copy that has just come back may not have
// everything yet. That it has no such message is no news of the stream: here its leader is asked, or
// the copy is given time.

// copyTries is how often a copy that is behind is asked again, some ten seconds with the pauses.
const copyTries = 14

var errCopyBehind = errors.New("the copy of the stream that was read is behind")

// behind reports whether the stream holds what one copy of it said to be missing: something from a
// sequence on, up to but not including another.
func (r *receiver) behind(ctx context.Context, from, until uint64) bool {
	if r.feed.bus.topo.Replicas < 2 {
		return false
	}
	l, err := r.feed.bus.links.link(lane{useFeed, r.class})
	if err != nil {
		return true
	}
	s, err := l.js.Stream(ctx, subjects.StreamOK(r.class)) // its leader answers
	if err != nil {
		return true
	}
	st := s.CachedInfo().State
	from = max(from, st.FirstSeq)
	return from < until && from <= st.LastSeq
}

// newestTries is how many copies are asked for the last message while they have less than the leader's
// stream does: they answer by chance, and the rest of the stream may be other targets'.
const newestTries = 8

// newest returns the last message of the target in a stream that its leader has just described, nil if
// there is none.
func (l *DoneLog) newest(ctx context.Context, s jetstream.Stream) (best *jetstream.RawStreamMsg, err error) {
	info := s.CachedInfo()
	for n := range newestTries {
		m, err := s.GetLastMsgForSubject(ctx, l.subject)
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil, ambiguous(err)
		}
		if err == nil && (best == nil || m.Sequence > best.Sequence) {
			best = m
		}
		all := best != nil && best.Sequence >= info.State.LastSeq || info.State.Msgs == 0
		if all || info.Config.Replicas < 2 || !retry.Pause(ctx, retry.Backoff(n, 10*time.Millisecond, 100*time.Millisecond)) {
			break
		}
	}
	return best, nil
}

// read calls f with every batch that was stored since, up to a sequence that is known to be stored,
// each once and in order.
func (l *DoneLog) read(ctx context.Context, since time.Time, upTo uint64, f func(batch []byte) error) error {
	var seen uint64
	for n := 0; ; n++ {
		err := l.bus.scan(ctx, subjects.StreamDone, l.subject, since, upTo, func(m jetstream.Msg) error {
			meta, err := m.Metadata()
			if err != nil || meta.Sequence.Stream <= seen {
				return err
			}
			seen = meta.Sequence.Stream
			return f(m.Data())
		})
		if err != nil || seen >= upTo {
			return err
		}
		if n >= copyTries || !retry.Pause(ctx, retry.Backoff(n, 20*time.Millisecond, time.Second)) {
			return fmt.Errorf("%w: %d of %d", errCopyBehind, seen, upTo)
		}
	}
}
