package peerlink

import (
	"context"
	"log/slog"
	"sync"

	"millrace/internal/order"
)

// sample is where a stream and one of its consumers are.
type sample struct {
	floor       uint64 // all up to here is done
	first, last uint64 // of the stream
	waiting     bool   // whether there is anything for the consumer above floor
}

// watch finds what left a stream before its consumer took it. A consumer's floor alone does not tell: what its
// filter leaves out leaves the stream, too. So watch remembers the oldest message that was seen waiting.
type watch struct {
	mu     sync.Mutex // Run is the only one who adds; tests look
	before sample
	oldest uint64 // zero: none known
	clear  uint64 // up to here nothing waits
}

// add takes a sample; from and to are what was missed, both zero for nothing. Next finds the first message from
// a sequence on that is for the consumer, zero for none.
func (w *watch) add(s sample, next func(from uint64) uint64) (from, to uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.oldest != 0 && s.first > w.oldest {
		from, to = w.oldest, s.first-1
		w.clear, w.oldest = to, 0
	}
	if w.oldest != 0 && w.oldest <= s.floor {
		w.oldest = 0
	}
	switch {
	case !s.waiting:
		w.clear, w.oldest = s.last, 0
	case w.oldest == 0 && s.floor == w.before.floor: // it does not move
		w.oldest = next(max(s.floor, w.clear, s.first-min(s.first, 1)) + 1)
	}
	w.before = s
	return from, to
}

func (l *Links) watch(ctx context.Context, name, direction string, c order.Priority, s sample, next func(uint64) uint64) {
	l.mu.Lock()
	known := l.peers[name]
	if known == nil {
		l.mu.Unlock()
		return
	}
	key := direction + c.String()
	w := known.watches[key]
	if w == nil {
		w = &watch{}
		known.watches[key] = w
	}
	l.mu.Unlock()
	from, to := w.add(s, next) // only Run adds, and next asks the bus: not under mu
	if to == 0 {
		return
	}
	l.m.missed.WithLabelValues(name, direction, c.String(), reasonPurged).Add(float64(to - from + 1))
	l.log.LogAttrs(ctx, slog.LevelWarn, "orders were missed", slog.String("peer", name), slog.String("direction", direction),
		slog.String("priority", c.String()), slog.Uint64("first", from), slog.Uint64("last", to), slog.String("reason", reasonPurged))
}
