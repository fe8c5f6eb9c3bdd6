package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/subjects"
)

const (
	// followOrders and followBatches bound what one fetch of a follower brings: headers of orders, or
	// batches of records, each of at most 80 kB.
	followOrders  = 256
	followBatches = 64
	// followIdle is how long the server keeps the consumer of a follower that does not ask.
	followIdle = time.Minute
	// recallWait is how long a follower waits for the acknowledgement of what is stored, looking every recallTick.
	recallWait = 100 * time.Millisecond
	recallTick = 5 * time.Millisecond
	// followDurable is what the names of those consumers begin with: they hold no purge back.
	followDurable = "follow-"
	// anyTarget is ledger.AnyTarget.
	anyTarget = "*"
)

// Follower reads one log from a place that its user keeps. It acknowledges nothing and holds nothing
// back: what was purged before it came by is gone for it. It is used by one goroutine at a time.
type Follower struct {
	bus      *Bus
	log      order.Log
	stream   string
	batch    int
	at       order.Place
	recent   *recent            // what this process stored there last; nil: nothing is remembered
	consumer jetstream.Consumer // nil: to be opened, behind at
	last     uint64             // its sequence of the last message; a gap means that one got lost
}

// Follow returns a follower of the log. Orders come without their bodies.
func (b *Bus) Follow(l order.Log) *Follower {
	f := &Follower{bus: b, log: l, batch: followBatches}
	switch l {
	case order.LogRejected:
		f.stream = subjects.StreamRejected
	case order.LogDone:
		f.stream = subjects.StreamDone
	default:
		f.stream, f.batch = subjects.StreamOK(order.Priority(l)), followOrders
		if b.tap != nil && b.tap.alone {
			f.recent = &b.tap.recent[order.Priority(l)]
			f.recent.follow()
		}
	}
	return f
}

// Read calls each with what the log holds behind after, oldest first, until there is no more, and
// returns the place of the last one. An error of each, or of the bus, ends it: the place says how far
// it got. A place of another life of the log, or beyond its end, is the beginning.
func (f *Follower) Read(ctx context.Context, after order.Place, each func(order.Logged) error) (order.Place, error) {
	if f.recent != nil && after == f.at && after.Epoch != 0 {
		switch complete, err := f.recall(ctx, each); {
		case err != nil:
			return f.at, fmt.Errorf("follow %s: %w", f.stream, err)
		case complete:
			return f.at, nil
		}
		after = f.at
	}
	if f.consumer == nil || after != f.at {
		if err := f.open(ctx, after); err != nil {
			return after, fmt.Errorf("follow %s: %w", f.stream, err)
		}
	}
	for {
		n, err := f.fetch(ctx, each)
		if err != nil {
			f.close(ctx)
			return f.at, fmt.Errorf("follow %s: %w", f.stream, err)
		}
		if n < f.batch {
			return f.at, nil
		}
	}
}

// recall hands out what this process remembers, up to the end of the stream as it is now; false: something of
// it is not remembered. What was stored a moment ago is remembered once its acknowledgement has come.
func (f *Follower) recall(ctx context.Context, each func(order.Logged) error) (complete bool, err error) {
	for end := time.Now().Add(recallWait); ; {
		for e, ok := f.recent.at(f.at.Sequence + 1); ok; e, ok = f.recent.at(f.at.Sequence + 1) {
			f.close(ctx) // what it would bring is known
			if err := each(e); err != nil {
				return false, err
			}
			f.at.Sequence = e.Sequence
		}
		l, err := f.bus.links.link(lane{use: useScan})
		if err != nil {
			return false, err
		}
		s, err := l.js.Stream(ctx, f.stream)
		if err != nil {
			return false, err
		}
		info := s.CachedInfo()
		switch {
		case info.Created.UnixNano() != f.at.Epoch, info.State.LastSeq < f.at.Sequence:
			return false, nil
		case info.State.LastSeq == f.at.Sequence:
			return true, nil
		}
		if _, ok := f.recent.at(f.at.Sequence + 1); !ok && (time.Now().After(end) || !retry.Pause(ctx, recallTick)) {
			return false, nil
		}
	}
}

// open makes the consumer behind a place.
func (f *Follower) open(ctx context.Context, after order.Place) error {
	f.close(ctx)
	l, err := f.bus.links.link(lane{use: useScan})
	if err != nil {
		return err
	}
	s, err := l.js.Stream(ctx, f.stream)
	if err != nil {
		return err
	}
	info := s.CachedInfo()
	if epoch := info.Created.UnixNano(); after.Epoch != epoch || after.Sequence > info.State.LastSeq {
		after = order.Place{Epoch: epoch}
	}
	c, err := s.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Name:              followDurable + nuid.Next(),
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       after.Sequence + 1,
		AckPolicy:         jetstream.AckNonePolicy,
		HeadersOnly:       f.log <= order.LogLow,
		InactiveThreshold: followIdle,
		MemoryStorage:     true,
		Replicas:          1,
	})
	if err != nil {
		return err
	}
	f.consumer, f.at, f.last = c, after, 0
	return nil
}

// close lets the consumer go; what does not reach the server ends by itself.
func (f *Follower) close(ctx context.Context) {
	if f.consumer == nil {
		return
	}
	name := f.consumer.CachedInfo().Name
	f.consumer = nil
	if l, err := f.bus.links.link(lane{use: useScan}); err == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiTimeout)
		defer cancel()
		_ = l.js.DeleteConsumer(ctx, f.stream, name)
	}
}

// errLost: between two messages of the consumer one did not arrive.
var errLost = errors.New("message lost on its way")

// fetch reads at most one batch of what is there.
func (f *Follower) fetch(ctx context.Context, each func(order.Logged) error) (n int, err error) {
	b, err := f.consumer.FetchNoWait(f.batch)
	if err != nil {
		return 0, err
	}
	for m := range b.Messages() {
		if err != nil || ctx.Err() != nil {
			continue // the rest of a batch that is given up
		}
		if err = f.take(m, each); err == nil {
			n++
		}
	}
	if err == nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err == nil {
		err = b.Error()
	}
	return n, err
}

func (f *Follower) take(m jetstream.Msg, each func(order.Logged) error) error {
	meta, err := m.Metadata()
	if err != nil {
		return err
	}
	if meta.Sequence.Consumer != f.last+1 {
		return errLost
	}
	e := order.Logged{Sequence: meta.Sequence.Stream, StoredAt: meta.Timestamp}
	subject, h := m.Subject(), m.Headers()
	target, done := strings.CutPrefix(subject, subjects.Done(""))
	switch {
	case done:
		e.Target, e.Batch = target, m.Data()
	case f.log == order.LogRejected:
		e.Target, e.Batch = anyTarget, m.Data()
		e.Trail = func(a order.AcceptID) (order.Trail, bool) { return subjects.DecodeTrail(h, a) }
	case !subjects.IsVoid(subject):
		// What can't be read was counted by whoever had to deliver it.
		if o, err := subjects.DecodeOrder(h, nil); err == nil {
			if t, ok := subjects.DecodeTrail(h, o.Accept); ok {
				o.Trail = &t
			}
			e.Order = o
		}
	}
	if err := each(e); err != nil {
		return err
	}
	f.last, f.at.Sequence = meta.Sequence.Consumer, meta.Sequence.Stream
	return nil
}
