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
