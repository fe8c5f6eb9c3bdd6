package egress

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"millrace/internal/ledger"
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
	log     *slog.Logger
	metrics *targetMetrics

	startedAt micros
	tailSince micros
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

	// inherited has the copies of what was stored before the start: another copy of them may be a
	// repeat, too. heir: there was an owner before.
	inherited recall[copyKey, struct{}]
	heir      bool

	settling bool
	settleAt micros
	fresh    [classes]bool // received something stored after the start
	stage    stage
	quietAt  micros // a removed target's backlog counts as read then

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
		cfg: t.cfg, name: t.name, clock: t.ports.Clock, sender: t.sender, valid: valid, removed: t.removed, isDown: &t.down,
		log: t.log, metrics: t.metrics,
		feed:    t.ports.Feed(t.name, t.fingerprint),
		ledger:  t.ports.Log(t.name),
		mem:     newMemory(micros(t.cfg.MaxAge.Microseconds())),
		pending: map[order.AcceptID]*item{},
		timers:  newTimers(),
		groups:  map[groupKey]*group{},
		claims:  map[copyKey]*item{},

		inherited: newRecall[copyKey, struct{}](micros(t.cfg.MaxAge.Microseconds())),
		results:   make(chan sent, t.cfg.InFlight+2*classes),
		stage:     stageServing,
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
			l.beginRemoval(toMicros(l.clock.Now()))
		case d := <-l.open(order.PriorityHigh):
			arrived, err = l.arrive(ctx, order.PriorityHigh, d)
		case d := <-l.open(order.PriorityMedium):
			arrived, err = l.arrive(ctx, order.PriorityMedium, d)
		case d := <-l.open(order.PriorityLow):
			arrived, err = l.arrive(ctx, order.PriorityLow, d)
		case r := <-l.results:
			l.settle(r, toMicros(l.clock.Now()))
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
	l.inherited.turn(now)
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

// arrive takes one order in; the item is nil when it is not new.
func (l *loop) arrive(ctx context.Context, p order.Priority, d order.Delivery) (*item, error) {
	now, storedAt := toMicros(l.clock.Now()), toMicros(d.StoredAt)
	if storedAt < l.tailSince {
		if err := l.widen(ctx, d.StoredAt); err != nil {
			return nil, err
		}
	}
	if storedAt <= l.startedAt {
		l.settleAt = now + settlePause
	} else {
		l.fresh[p] = true
	}
	l.quietAt = now + settlePause
	if l.known(p, d, now) {
		return nil, nil //nolint:nilnil // nothing new is no fault
	}
	l.highest[p] = max(l.highest[p], d.Sequence)
	it := newItem(d, l.mem.origin(d.Order.Origin))
	it.priority = p
	if storedAt <= l.startedAt {
		it.repeat, l.heir = true, true
		l.inherited.put(idKey(it.id, it.origin), struct{}{})
		l.inherited.put(keyKey(it.key, it.origin), struct{}{})
	}
	it.body = d.Order
	l.cached += int64(it.size)
	l.pending[it.accept] = it
	l.waiting[p]++
	l.timers.push(it)
	l.metrics.received.Inc()
	switch {
	case l.stage == stageRemoving:
		l.end(it, ledger.TargetRemoved)
	case it.deadline <= now:
		l.expire(it, now)
	case l.foretold(it, now):
	case it.replacement.IsZero():
		l.enqueue(it)
	default:
		l.join(it)
		l.promote(it.group)
	}
	return it, nil
}

// known reports whether d is here already or has its record; what is recorded is acknowledged again.
func (l *loop) known(p order.Priority, d order.Delivery, now micros) bool {
	if it, ok := l.pending[d.Order.Accept]; ok {
		if it.sequence == 0 {
			it.sequence = d.Sequence
		}
		if it.sequence != d.Sequence || it.priority != p {
			l.ack(p, d.Sequence) // stored twice; the first one is still unacknowledged
		}
		return true
	}
	_, recorded := l.mem.recorded.find(d.Order.Accept)
	// Everything at or below the highest sequence was received before. When its record is older than
	// what we remember, only an acknowledgement that got lost can bring it back.
	old := d.Sequence <= l.highest[p] && toMicros(d.Order.Deadline)+l.mem.maxAge < now
	if recorded || old {
		l.ack(p, d.Sequence)
		return true
	}
	return false
}

func (l *loop) ack(p order.Priority, sequence uint64) {
	if err := l.feed.Ack(p, sequence); err != nil {
		l.metrics.ackErrors.Inc()
	}
}

// trim lets go of the body of an item that has to wait when the cache is full.
func (l *loop) trim(it *item) {
	if it.body != nil && it.state != stateWire && l.cached > l.cfg.CacheBytes {
		l.drop(it)
	}
}

func (l *loop) drop(it *item) {
	if it.body != nil {
		it.body = nil
		l.cached -= int64(it.size)
	}
}

// enqueue readies it, in stored order.
func (l *loop) enqueue(it *item) {
	it.state = stateReady
	l.ready[it.priority].insert(it)
}

// release readies a parked item, unless its group has to decide.
func (l *loop) release(it *item) {
	switch {
	case it.claim != nil:
	case it.group != nil:
		l.promote(it.group)
	default:
		l.enqueue(it)
	}
}

// foretold ends it when the target has its content, or something newer of its group.
func (l *loop) foretold(it *item, now micros) bool {
	if c, ok := l.mem.sent(it, now); ok {
		it.of = c.accept
		l.end(it, ledger.Duplicate)
		return true
	}
	if it.replacement.IsZero() {
		return false
	}
	f, ok := l.mem.floor(groupKey{signer: it.signer, uuid: it.replacement, origin: it.origin}, now)
	if !ok || it.nonce > f.nonce {
		return false
	}
	if it.id == f.id {
		it.repeat = true // the copy that raised the floor expired, but may have arrived
		return false
	}
	it.of = f.accept
	l.end(it, ledger.Superseded)
	return true
}

// expire ends it at its deadline.
func (l *loop) expire(it *item, now micros) {
	if !l.foretold(it, now) {
		l.end(it, ledger.Expired)
	}
}

// end gives it its terminal record, which is the only place where that happens, and lets go those
// that waited for it.
func (l *loop) end(it *item, outcome ledger.Outcome) {
	if it.state == stateReady {
		l.ready[it.priority].remove(it)
	}
	l.timers.remove(it)
	l.drop(it)
	it.outcome, it.state, it.doneAt = outcome, stateDone, toMicros(l.clock.Now())
	e := it.entry(l.mem.origins)
	l.mem.remember(&e, it.origin)
	l.recorder.add(it)
	l.metrics.ended(&e)
	if it.claims {
		l.disclaim(it, outcome)
	}
	it.claim = nil
	if g := it.group; g != nil {
		l.leave(it)
		if l.mem.raises(&e) {
			l.supersede(g, it.doneAt)
		}
		it.group = nil
		l.promote(g)
	}
}

// disclaim tells the copies that waited for it how it ended.
func (l *loop) disclaim(it *item, outcome ledger.Outcome) {
	for _, k := range [...]copyKey{idKey(it.id, it.origin), keyKey(it.key, it.origin)} {
		if l.claims[k] == it {
			delete(l.claims, k)
		}
	}
	copies := it.copies
	it.copies, it.claims = nil, false
	for _, c := range copies {
		if c.state == stateDone || c.claim != it {
			continue
		}
		c.claim = nil
		if outcome == ledger.Delivered || outcome == ledger.Refused {
			c.of = it.accept
			l.end(c, ledger.Duplicate)
		} else {
			l.release(c)
		}
	}
}

// claimed returns the copy of it that is being delivered, if there is one.
func (l *loop) claimed(it *item) *item {
	if c := l.claims[idKey(it.id, it.origin)]; c != nil {
		return c
	}
	for o := range l.mem.origins {
		if o := uint16(o); o != it.origin { //nolint:gosec // at most maxOrigins
			if c := l.claims[keyKey(it.key, o)]; c != nil {
				return c
			}
		}
	}
	return nil
}

// mayRepeat reports whether an owner before this one may have sent a copy of it. Until the backlog is
// read, any order may have one in there.
func (l *loop) mayRepeat(it *item) bool {
	if !l.heir || it.repeat {
		return it.repeat
	}
	_, ok := l.inherited.find(idKey(it.id, it.origin))
	for o := range l.mem.origins {
		if o := uint16(o); o != it.origin && !ok { //nolint:gosec // at most maxOrigins
			_, ok = l.inherited.find(keyKey(it.key, o))
		}
	}
	return ok || l.settling
}

// jittered is d give or take a quarter, so that many don't return at once.
func jittered(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2+1) //nolint:gosec // not a secret
}

// backoff is the pause after the n-th failure in a row.
func (c *Config) backoff(n int) time.Duration {
	return jittered(min(c.RetryMin<<min(max(n-1, 0), 16), c.RetryMax))
}
