package egress

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"millrace/internal/order"
)

const (
	classes = int(order.PriorityLow) + 1 // indexed by order.Priority; 0 is unused

	// settlePause is how long a class must be silent before a new owner takes its backlog as read.
	settlePause = micros(250_000)
	// maxPause bounds the timer, because the bus clock may be corrected while it runs.
	maxPause = time.Second
	// tailMargin is added to what a new owner reads of the ledger: a record is stored after its order
	// ended, and the clocks of two owners differ a little.
	tailMargin = 5 * time.Second
)

// loop is the state of one target while this process owns it. One goroutine (run) owns all of it;
// senders, receivers and the recorder speak to it over the channels.
type loop struct {
	cfg     Config
	name    string
	clock   Clock
	feed    Feed
	ledger  Log
	sender  func() Sender
	valid   func() bool
	isDown  *atomic.Bool
	removed <-chan struct{}
	chain   Head // nil: nothing is known of it
	log     *slog.Logger
	metrics *targetMetrics

	startedAt micros
	tailSince micros // what was read of the ledger, and when
	tailAt    micros
	head      uint64 // the newest block known
	mem       *memory

	pending map[order.AcceptID]*item // every item, until its record is written
	waiting [classes]int             // of them by class; MaxWaiting bounds it
	highest [classes]uint64          // sequence received
	ready   [classes]queue
	newest  [classes]bool // take the newest first until the queue is short again
	timers  *indexed
	groups  map[groupKey]*group
	claims  map[copyKey]*item
	cached  int64 // bytes of bodies of waiting items

	wire      [classes]int
	wireBytes [classes]int64
	onWire    int
	health    health

	heir     bool // there was an owner before
	settling bool
	settleAt micros
	fresh    [classes]bool // received something stored after the start
	stage    stage
	removedAt,
	quietAt micros // a removed target's backlog counts as read then

	recorder recorder
	arrivals [classes]chan order.Delivery
	results  chan sent
}

// stage is where a loop is in its life.
type stage uint8

const (
	stageServing  stage = iota + 1
	stageRemoving       // the target was taken out: everything it is owed ends
	stageDraining       // nothing starts any more
)

func newLoop(t *target, valid func() bool) *loop {
	l := &loop{
		cfg: t.cfg, name: t.name, clock: t.ports.Clock, sender: t.sender, valid: valid, removed: t.removed, isDown: &t.down, chain: t.ports.Head,
		log: t.log, metrics: t.metrics,
		feed:    t.ports.Feed(t.name, t.fingerprint, t.scope),
		ledger:  t.ports.Log(t.name),
		mem:     newMemory(micros(t.cfg.MaxAge.Microseconds())),
		pending: map[order.AcceptID]*item{},
		timers:  newTimers(),
		groups:  map[groupKey]*group{},
		claims:  map[copyKey]*item{},
		results: make(chan sent, t.cfg.InFlight+2*classes),
		stage:   stageServing,
	}
	l.recorder.init()
	for _, p := range order.Priorities {
		l.arrivals[p] = make(chan order.Delivery)
		l.newest[p] = true
	}
	l.startedAt = toMicros(l.clock.Now())
	return l
}

// run takes the target over and serves it until ctx ends, the lease is lost or the target is
// removed (errRemoved).
func (l *loop) run(ctx context.Context) error {
	since := l.clock.Now().Add(-l.cfg.MaxAge - tailMargin)
	if err := l.tail(ctx, since); err != nil {
		return err
	}
	if err := l.feed.Open(ctx); err != nil {
		return fmt.Errorf("open feed of %s: %w", l.name, err)
	}
	l.settling, l.settleAt = true, toMicros(l.clock.Now())+settlePause

	g, inner := errgroup.WithContext(ctx)
	receiving, stopReceiving := context.WithCancel(inner)
	afterEnd, cancel := context.WithCancel(context.WithoutCancel(ctx))
	for _, p := range order.Priorities {
		g.Go(func() error { return l.receive(receiving, p) })
	}
	g.Go(func() error { return l.record(afterEnd) })
	g.Go(func() error {
		defer cancel()
		defer close(l.recorder.batches)
		defer stopReceiving()
		err := l.serve(inner, afterEnd)
		stopReceiving()
		return l.drain(ctx, cancel, err)
	})
	return g.Wait()
}

// serve is the loop proper. Senders get the context sending, which outlives ctx.
func (l *loop) serve(ctx, sending context.Context) error {
	timer := time.NewTimer(maxPause)
	defer timer.Stop()
	removed := l.removed
	for {
		now := toMicros(l.clock.Now())
		l.tick(now)
		l.dispatch(sending, now)
		l.flush(now)
		if l.stage == stageRemoving && l.finished(now) {
			return l.remove(ctx)
		}
		timer.Reset(l.pause(now))
		var arrived *item
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-removed:
			removed = nil
			l.beginRemoval(ctx, toMicros(l.clock.Now()))
		case d := <-l.open(order.PriorityHigh):
			arrived, err = l.arrive(ctx, order.PriorityHigh, d)
		case d := <-l.open(order.PriorityMedium):
			arrived, err = l.arrive(ctx, order.PriorityMedium, d)
		case d := <-l.open(order.PriorityLow):
			arrived, err = l.arrive(ctx, order.PriorityLow, d)
		case r := <-l.results:
			l.settle(ctx, r, toMicros(l.clock.Now()))
		case w := <-l.recorder.written:
			err = l.recorded(w)
		case <-timer.C:
		}
		if err != nil {
			return err
		}
		if arrived != nil {
			l.dispatch(sending, toMicros(l.clock.Now()))
			l.trim(arrived)
		}
	}
}

// open is class p's arrivals while there is room for one more.
func (l *loop) open(p order.Priority) <-chan order.Delivery {
	if l.waiting[p] >= l.cfg.MaxWaiting {
		return nil
	}
	return l.arrivals[p]
}

// pause is how long nothing needs to be done if nothing happens.
func (l *loop) pause(now micros) time.Duration {
	at := now + micros(maxPause.Microseconds())
	soon := func(m micros) { at = min(at, max(m, now)) }
	if it := l.timers.top(); it != nil {
		soon(it.wake())
	}
	if l.settling {
		soon(l.settleAt)
	}
	if h := &l.health; h.down && h.probes == 0 && h.probeAt > now {
		soon(h.probeAt)
	}
	if l.stage == stageRemoving && l.quietAt > now {
		soon(l.quietAt)
	}
	if at2, ok := l.recorder.due(); ok {
		soon(at2)
	}
	return time.Duration(at-now) * time.Microsecond
}

// tick does what is due: retries, expiry, the end of settling, forgetting.
func (l *loop) tick(now micros) {
	l.mem.turn(now)
	l.follow(now)
	for it := l.timers.top(); it != nil && it.wake() <= now; it = l.timers.top() {
		if it.deadline <= now {
			l.expire(it, now)
			continue
		}
		it.state = stateParked
		l.timers.remove(it)
		l.timers.push(it)
		l.release(it)
	}
	if l.settling && (now >= l.settleAt || l.allFresh()) {
		l.settling = false
		for _, g := range l.groups {
			l.promote(g)
		}
	}
	l.metrics.levels(l)
}

func (l *loop) allFresh() bool {
	return l.fresh[order.PriorityHigh] && l.fresh[order.PriorityMedium] && l.fresh[order.PriorityLow]
}

// jittered is d give or take a quarter, so that many don't return at once.
func jittered(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2+1) //nolint:gosec // not a secret
}

// backoff is the pause after the n-th failure in a row.
func (c *Config) backoff(n int) time.Duration {
	return jittered(min(c.RetryMin<<min(max(n-1, 0), 16), c.RetryMax))
}
