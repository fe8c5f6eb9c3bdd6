package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
	"millrace/subjects"
)

// Feed is one target's side of the OK streams: a durable consumer for each class. Whoever holds
// the target's lease opens it, then receives each class in a goroutine of its own.
type Feed struct {
	bus         *Bus
	target      string
	durable     string
	fingerprint string
	scope       order.Scope
	classes     [len(order.Priorities) + 1]feedClass

	// removal is held for reading while a consumer is made, so that none is made after Remove.
	removal sync.RWMutex
	removed chan struct{} // closed by Remove
}

var errFeedRemoved = errors.New("feed is removed")

// feedClass is what a feed knows about one of its consumers.
type feedClass struct {
	// next is the stream sequence that is expected to arrive next; zero: not known. It belongs to
	// the goroutine in Receive; Open sets it before.
	next uint64
	// turn is the consumer's own number of the message that came last; zero: not known. It belongs to the same.
	turn uint64

	early early

	mu     sync.Mutex
	stream jetstream.Stream
	ack    ackSubject
}

// Feed returns the feed of a target that is owed the orders of a scope. fingerprint stands for the target's URL: one
// name, one URL, one scope.
func (b *Bus) Feed(target, fingerprint string, scope order.Scope) *Feed {
	f := &Feed{
		bus: b, target: target, durable: subjects.TargetDurable(target), fingerprint: fingerprint, scope: scope,
		removed: make(chan struct{}),
	}
	for _, p := range order.Priorities {
		f.classes[p].ack = ackSubject{before: "$JS.ACK." + subjects.StreamOK(p) + "." + f.durable + "."}
	}
	return f
}

// Open makes the target's consumers if they are missing, starting at what may still be delivered
// (CORRECTNESS 17), checks that they are this target's, and starts each over at its first
// unacknowledged order: what an earlier owner took and did not record comes again (CORRECTNESS 12).
// The error wraps order.ErrFingerprint when the consumers belong to another URL, or have another scope.
func (f *Feed) Open(ctx context.Context) error {
	for _, p := range order.Priorities {
		if err := f.open(ctx, p); err != nil {
			return fmt.Errorf("open feed of %s: %w", f.target, err)
		}
	}
	return nil
}

// Declare makes the target's consumers where they are missing, and reads nothing: the target is owed what is stored from
// then on. A process that takes orders itself calls it before the first one comes. Otherwise its loop might be late and
// the process be killed, and be away for longer than orders live: then Open would begin behind what it had accepted.
func (f *Feed) Declare(ctx context.Context) error {
	for _, p := range order.Priorities {
		l, err := f.bus.links.link(lane{useFeed, p})
		if err != nil {
			return fmt.Errorf("declare feed of %s: %w", f.target, err)
		}
		_, err = l.js.Consumer(ctx, subjects.StreamOK(p), f.durable)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			err = f.create(ctx, l, p)
		}
		if err != nil {
			return fmt.Errorf("declare feed of %s: consumer of %s: %w", f.target, subjects.StreamOK(p), err)
		}
	}
	return nil
}

func (f *Feed) open(ctx context.Context, p order.Priority) error {
	l, err := f.bus.links.link(lane{useFeed, p})
	if err != nil {
		return err
	}
	stream := subjects.StreamOK(p)
	c, err := l.js.Consumer(ctx, stream, f.durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		if err = f.create(ctx, l, p); err == nil {
			c, err = l.js.Consumer(ctx, stream, f.durable)
		}
	}
	if err != nil {
		return fmt.Errorf("consumer of %s: %w", stream, err)
	}
	meta := c.CachedInfo().Config.Metadata
	if meta[subjects.MetaFingerprint] != f.fingerprint || subjects.ScopeOf(c.CachedInfo().Config) != f.scope {
		return fmt.Errorf("consumer of %s: %w", stream, order.ErrFingerprint)
	}
	if err := checkSchema("consumer "+f.durable, meta); err != nil {
		return err
	}
	f.setMode(ctx, l, stream, c.CachedInfo().Config)
	reset, err := l.js.ResetConsumer(ctx, stream, f.durable)
	if err != nil {
		return fmt.Errorf("reset consumer of %s: %w", stream, err)
	}
	f.classes[p].next, f.classes[p].turn = reset.ConsumerInfo.Delivered.Stream+1, 0
	f.classes[p].early.reset()
	return nil
}

// create makes class p's consumer, unless the feed is removed: a consumer that nobody reads would
// keep its stream from being purged for ever.
func (f *Feed) create(ctx context.Context, l *link, p order.Priority) error {
	f.removal.RLock()
	defer f.removal.RUnlock()
	if f.isRemoved() {
		return errFeedRemoved
	}
	cfg := subjects.Scoped(subjects.TargetConsumer(f.target, f.fingerprint, f.bus.Now(), f.bus.topo.MaxAge), f.scope, p)
	if f.bus.tap != nil {
		cfg = subjects.HeadersOnly(cfg)
	}
	if f.bus.tap != nil && f.bus.tap.alone {
		if err := f.startBySequence(ctx, l, p, &cfg); err != nil {
			return err
		}
	}
	_, err := l.js.CreateConsumer(ctx, subjects.StreamOK(p), cfg)
	return err
}

// startBySequence replaces the time at which the consumer starts by the sequence that it means: a consumer that
// starts at a time has the server look for that time, in its oldest block, whenever the consumer is moved.
func (f *Feed) startBySequence(ctx context.Context, l *link, p order.Priority, cfg *jetstream.ConsumerConfig) error {
	s, err := l.js.Stream(ctx, subjects.StreamOK(p))
	if err != nil {
		return err
	}
	st, start := s.CachedInfo().State, *cfg.OptStartTime
	low, high := st.FirstSeq, st.LastSeq+1 // the first message not before start is in low..high
	if st.Msgs == 0 {
		low = high
	}
	for low < high {
		mid := low + (high-low)/2
		m, err := s.GetMsg(ctx, mid, jetstream.WithGetMsgSubject(">"))
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
			high = mid
		case err != nil:
			return err
		case m.Time.Before(start):
			low = m.Sequence + 1
		default:
			high = mid
		}
	}
	cfg.DeliverPolicy, cfg.OptStartTime, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, nil, max(low, 1)
	return nil
}

func (f *Feed) isRemoved() bool {
	select {
	case <-f.removed:
		return true
	default:
		return false
	}
}

// Receive hands class p's orders to h, one by one in the order of the stream, until ctx ends or the
// feed is removed. h may block: then no more are fetched. What got lost between server and client is read again by
// sequence at once, because the server would repeat it only after its deadline. Repeats of
// unacknowledged orders do occur. Tapped orders come ahead of those that the consumer brings, with
// Deliveries zero; what it brings without its body has a nil Order.Body (see Body).
func (f *Feed) Receive(ctx context.Context, p order.Priority, h func(order.Delivery)) error {
	l, err := f.bus.links.link(lane{useFeed, p})
	if err != nil {
		return fmt.Errorf("receive for %s: %w", f.target, err)
	}
	var turn sync.Mutex // one by one, whoever brings it
	r := &receiver{feed: f, class: p, handle: func(d order.Delivery) {
		turn.Lock()
		defer turn.Unlock()
		h(d)
	}}
	br, shut := f.bus.tap.open(p, f.scope, &f.classes[p])
	defer shut()
	pl := &puller{
		link: l, stream: subjects.StreamOK(p), durable: f.durable, stage: stageOK, priority: p,
		pull:   prefetch(p, f.bus.topo.MaxBody+subjects.HeaderRoom),
		create: func(ctx context.Context) error { return f.create(ctx, l, p) },
		each:   func(m jetstream.Msg) news { return r.take(ctx, m) },
		idle:   r.idle,
		m:      f.bus.m, log: f.bus.log,
	}
	if br != nil {
		pl.linger, pl.hurry = f.bus.linger(), br.hurry
		pl.passer = f.bus.passer(pl, &f.classes[p])
	}
	ctx, stop := context.WithCancel(ctx)
	var aside sync.WaitGroup
	aside.Go(func() {
		defer stop()
		select {
		case <-f.removed:
		case <-ctx.Done():
		}
	})
	if br != nil {
		aside.Go(func() { br.run(ctx, r.handle) })
	}
	err = pl.run(ctx)
	stop()
	aside.Wait()
	return err
}

// Ack tells the server that the order at this sequence is accounted for. It does not wait; a lost
// ack brings the order back after a restart, when the ledger says that it is done.
func (f *Feed) Ack(p order.Priority, sequence uint64) error {
	l, err := f.bus.links.link(lane{useFeed, p})
	if err != nil {
		return fmt.Errorf("ack %d for %s: %w", sequence, f.target, err)
	}
	c := &f.classes[p]
	if c.early.acked(sequence) {
		return nil // the server has not handed it out yet, and would not hear of it
	}
	c.mu.Lock()
	subject := c.ack.of(sequence)
	c.mu.Unlock()
	if err := l.nc.Publish(subject, nil); err != nil {
		return fmt.Errorf("ack %d for %s: %w", sequence, f.target, err)
	}
	return nil
}

// Body reads the order at this sequence of class p again.
func (f *Feed) Body(ctx context.Context, p order.Priority, sequence uint64) (order.Delivery, error) {
	s, err := f.stream(ctx, p)
	if err != nil {
		return order.Delivery{}, fmt.Errorf("read order %d for %s: %w", sequence, f.target, err)
	}
	raw, err := s.GetMsg(ctx, sequence)
	if err != nil {
		return order.Delivery{}, fmt.Errorf("read order %d for %s: %w", sequence, f.target, err)
	}
	return reread(raw)
}

// Remove deletes the consumers of a target that is no longer configured; that they are gone
// already is fine. It ends Receive and is final for this Feed: an error can be met by trying again.
func (f *Feed) Remove(ctx context.Context) error {
	f.removal.Lock()
	if !f.isRemoved() {
		close(f.removed)
	}
	f.removal.Unlock()
	var errs []error
	for _, p := range order.Priorities {
		l, err := f.bus.links.link(lane{useFeed, p})
		if err == nil {
			err = l.js.DeleteConsumer(ctx, subjects.StreamOK(p), f.durable)
		}
		if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			errs = append(errs, fmt.Errorf("remove feed of %s: %w", f.target, err))
		}
	}
	return errors.Join(errs...)
}

// stream returns the handle for direct gets, opening it once.
func (f *Feed) stream(ctx context.Context, p order.Priority) (jetstream.Stream, error) {
	c := &f.classes[p]
	c.mu.Lock()
	s := c.stream
	c.mu.Unlock()
	if s != nil {
		return s, nil
	}
	l, err := f.bus.links.link(lane{useFeed, p})
	if err != nil {
		return nil, err
	}
	if s, err = l.js.Stream(ctx, subjects.StreamOK(p)); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.stream = s
	c.mu.Unlock()
	return s, nil
}
