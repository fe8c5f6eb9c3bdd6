package egress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

const (
	// batchMin entries are written at once; fewer wait at most batchWait for company.
	batchMin  = 64
	batchMax  = 256
	batchWait = micros(5_000)
)

// recorder holds what ended until its record is stored. One batch is being written at a time, as
// each names the one before it; what was sent is written before what was not, so that a mass of
// expired orders does not hold sends back.
type recorder struct {
	sent, unsent fifo
	writing      []*item
	writingSent  int    // of those, how many were sent
	dueAt        micros // zero: nothing waits
	batches      chan batch
	written      chan batch
}

// batch is one write and the acknowledgements that follow it.
type batch struct {
	bytes []byte
	acks  []receipt
	err   error
}

type receipt struct {
	p        order.Priority
	sequence uint64
}

func (r *recorder) init() {
	r.batches, r.written = make(chan batch, 1), make(chan batch, 1)
}

// add takes an ended item.
func (r *recorder) add(it *item) {
	if it.attempts > 0 {
		r.sent.push(it)
	} else {
		r.unsent.push(it)
	}
	if r.dueAt == 0 {
		r.dueAt = it.doneAt + batchWait
	}
}

func (r *recorder) len() int { return r.sent.len() + r.unsent.len() }

// full reports whether another request might leave more results unrecorded than window.
func (r *recorder) full(onWire, window int) bool {
	return r.sent.len()+r.writingSent+onWire >= window
}

// due is when the next batch should be written; ok is false when nothing waits or a write is under
// way.
func (r *recorder) due() (at micros, ok bool) {
	return r.dueAt, r.dueAt != 0 && len(r.writing) == 0
}

// flush hands a batch to the writer when there is enough, or what there is has waited.
func (l *loop) flush(now micros) {
	r := &l.recorder
	at, ok := r.due()
	if !ok || (r.len() < batchMin && now < at && l.stage != stageDraining) {
		return
	}
	b := batch{bytes: make([]byte, 0, min(r.len(), batchMax)*ledger.EntrySize)}
	for len(r.writing) < batchMax && r.len() > 0 {
		it := r.sent.pop()
		if it == nil {
			it = r.unsent.pop()
		} else {
			r.writingSent++
		}
		r.writing = append(r.writing, it)
		e := it.entry(l.mem.origins)
		b.bytes = e.AppendTo(b.bytes)
		b.acks = append(b.acks, receipt{p: it.priority, sequence: it.sequence})
	}
	r.dueAt = 0
	if r.len() > 0 {
		r.dueAt = now
	}
	r.batches <- b // never blocks: one batch at a time
}

// recorded lets go of what is stored.
func (l *loop) recorded(b batch) error {
	if b.err != nil {
		return b.err
	}
	for i, it := range l.recorder.writing {
		delete(l.pending, it.accept)
		l.waiting[it.priority]--
		l.recorder.writing[i] = nil
	}
	l.recorder.writing, l.recorder.writingSent = l.recorder.writing[:0], 0
	return nil
}

// record writes batches until there are no more; it owns the ledger between tail and the end.
func (l *loop) record(ctx context.Context) error {
	for b := range l.recorder.batches {
		start := time.Now()
		b.err = l.append(ctx, b.bytes)
		if b.err == nil {
			l.metrics.appendSeconds.Observe(time.Since(start).Seconds())
			l.metrics.batchSize.Observe(float64(len(b.acks)))
			for _, a := range b.acks {
				l.ack(a.p, a.sequence)
			}
		}
		l.recorder.written <- b // room for one; a failed batch is the last
		if b.err != nil {
			return nil //nolint:nilerr // the loop reports it
		}
	}
	return nil
}

// append stores a batch, however long that takes: without its record an order has not ended. Only
// the end of ownership or of ctx stops it.
func (l *loop) append(ctx context.Context, b []byte) error {
	for n := 1; ; n++ {
		err := l.ledger.Append(ctx, b)
		if err == nil {
			return nil
		}
		if errors.Is(err, order.ErrFenced) || ctx.Err() != nil {
			return fmt.Errorf("record at %s: %w", l.name, err)
		}
		l.metrics.appendErrors.Inc()
		if n == 1 {
			l.log.LogAttrs(ctx, slog.LevelWarn, "ledger unavailable", slog.String("target", l.name), slog.Any("error", err))
		}
		select {
		case <-time.After(l.cfg.backoff(n)):
		case <-ctx.Done():
			return fmt.Errorf("record at %s: %w", l.name, err)
		}
	}
}

// fifo is a queue that gives its memory back.
type fifo struct {
	items []*item
	head  int
}

func (f *fifo) len() int { return len(f.items) - f.head }

func (f *fifo) push(it *item) {
	if f.head > 1024 && f.head*2 > len(f.items) {
		f.items = append([]*item(nil), f.items[f.head:]...)
		f.head = 0
	}
	f.items = append(f.items, it)
}

// pop returns nil when there is nothing.
func (f *fifo) pop() *item {
	if f.head == len(f.items) {
		return nil
	}
	it := f.items[f.head]
	f.items[f.head] = nil
	if f.head++; f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
		if cap(f.items) > 4096 {
			f.items = nil
		}
	}
	return it
}
