package upkeep

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"millrace/internal/order"
	"millrace/subjects"
)

const (
	backlogEvery   = 100 * time.Millisecond
	backlogTimeout = 2 * time.Second
	// A class whose oldest order is younger than brisk is asked about in one of briskly rounds only: each question
	// costs server and client as much as an order does.
	brisk   = 100 * time.Millisecond
	briskly = 4
)

// Backlog knows how long each class's oldest order has been waiting on IN. It asks for the state of
// the workers' consumers ten times a second where something waits for long, less often where nothing does, and
// never reads a body, but for one order per class after a start that finds a backlog.
//
// The ack floor moves exactly when the oldest order is done, whatever happened to those behind it,
// so the first sequence above it is the oldest order that waits. It is safe for concurrent use.
type Backlog struct {
	log     *slog.Logger
	classes [len(order.Priorities)]class
}

type class struct {
	js       jetstream.JetStream
	priority order.Priority
	metrics  classMetrics
	oldest   atomic.Int64 // nanoseconds; zero: nothing waits
	history  history      // of Run's goroutine for this class
	blind    bool         // see Blind
	left     int          // rounds until the class is asked about although nothing waits for long
}

// NewBacklog returns a Backlog of all classes; reg gets the millrace_bus_queue_… series.
func NewBacklog(js jetstream.JetStream, log *slog.Logger, reg prometheus.Registerer) *Backlog {
	b := &Backlog{log: log}
	m := newBacklogMetrics(reg)
	for i, p := range order.Priorities {
		b.classes[i].js, b.classes[i].priority, b.classes[i].metrics = js, p, m.class(p)
	}
	return b
}

// Blind makes b never read an order, not even for the time that it was stored, for a process that has no right
// to. What waits when it starts is dated by the ages of the first and the last order in the stream, in
// proportion: exactly, when nothing is left there that is done, as behind a backlog beyond the duplicate window.
// It is called before Run.
func (b *Backlog) Blind() *Backlog {
	for i := range b.classes {
		b.classes[i].blind = true
	}
	return b
}

// Oldest returns the age of class p's oldest order on IN that is not done, at the last sample; zero
// when there is none. It is off by at most 100 ms, or 400 ms while it is below 100 ms. While the bus does not
// answer the last value stands.
func (b *Backlog) Oldest(p order.Priority) time.Duration {
	if !p.Valid() {
		return 0
	}
	return time.Duration(b.classes[p-order.PriorityHigh].oldest.Load())
}

// Run samples until ctx ends. A class whose stream or consumer is slow to answer delays no other.
func (b *Backlog) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for i := range b.classes {
		c := &b.classes[i]
		r := rounds{name: "backlog_" + c.priority.String(), log: b.log}
		g.Go(func() error { return r.every(ctx, backlogEvery, c.round) })
	}
	return g.Wait()
}

// round samples when it is time to.
func (c *class) round(ctx context.Context) error {
	if c.left--; c.left > 0 && time.Duration(c.oldest.Load()) < brisk {
		return nil
	}
	c.left = briskly
	return c.sample(ctx)
}

func (c *class) sample(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, backlogTimeout)
	defer cancel()
	cons, err := c.js.Consumer(ctx, subjects.StreamIn(c.priority), subjects.WorkerDurable)
	if err != nil {
		return err
	}
	info := cons.CachedInfo()
	now := info.TimeStamp
	first := info.AckFloor.Stream + 1
	// Sequences that were burnt or purged make this too low, never too high.
	seen := info.Delivered.Stream + info.NumPending
	waiting := info.NumPending > 0 || info.NumAckPending > 0
	if _, ok := c.history.dated(first); waiting && !ok && !c.datableAfter(first) {
		c.seed(ctx, first, seen, now)
	}
	c.history.add(seen, now)
	c.history.forgetBelow(first)

	var age time.Duration
	if at, ok := c.history.dated(first); waiting && ok {
		age = max(now.Sub(at), 1)
	}
	c.oldest.Store(int64(age))
	c.metrics.set(info.NumPending, info.NumAckPending, age)
	return nil
}

// datableAfter reports whether the sample that is about to be added will date seq.
func (c *class) datableAfter(seq uint64) bool {
	n := len(c.history.marks)
	return n > 0 && c.history.marks[n-1].seq < seq
}

// seed starts the history with the oldest order that waits, read once for its time, or with what the stream's
// state says. Without it a restart under load would forget how old the backlog is. When nothing can be
// learned, it is dated now.
func (c *class) seed(ctx context.Context, first, seen uint64, now time.Time) {
	at := now
	stream, err := c.js.Stream(ctx, subjects.StreamIn(c.priority))
	switch {
	case err == nil && c.blind:
		if c.seedBy(stream.CachedInfo().State, first, seen, now) {
			return
		}
	case err == nil:
		m, err := stream.GetMsg(ctx, first, jetstream.WithGetMsgSubject(">"))
		if err == nil && m.Time.Before(now) {
			at = m.Time
		}
	}
	c.history.marks = append(c.history.marks[:0],
		mark{seq: first - 1, from: at, until: at}, mark{seq: first, from: at, until: at})
}

// seedBy starts the history with what the stream's state says of its ends; false: nothing about first.
func (c *class) seedBy(s jetstream.StreamState, first, seen uint64, now time.Time) bool {
	if s.Msgs == 0 || s.FirstSeq == 0 || first > s.LastSeq || s.FirstTime.After(now) {
		return false
	}
	if first < s.FirstSeq {
		s.FirstSeq = first // what was before the oldest order is gone
	}
	c.history.marks = append(c.history.marks[:0],
		mark{seq: s.FirstSeq - 1, from: s.FirstTime, until: s.FirstTime}, mark{seq: s.FirstSeq, from: s.FirstTime, until: s.FirstTime})
	// What came after the sample that is about to be added would contradict it.
	if s.LastSeq > s.FirstSeq && s.LastSeq <= seen && !s.LastTime.After(now) {
		c.history.marks = append(c.history.marks, mark{seq: s.LastSeq, from: s.LastTime, until: s.LastTime})
	}
	return true
}
