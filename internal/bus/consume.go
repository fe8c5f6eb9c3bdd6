package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/subjects"
)

const (
	// DrainTimeout bounds how long a consuming call goes on after its context ended, to finish
	// what it had begun.
	DrainTimeout = 5 * time.Second
	// progressAge is how old a held order gets before the server hears that it is being worked on;
	// progressTick how often that is checked.
	progressAge  = subjects.WorkerAckWait / 2
	progressTick = subjects.WorkerAckWait / 8
	// room is how many orders of a class wait for a slot inside the process.
	room = 16
)

// InHandler is what a worker does with an order in one of the slots. It calls yield between the
// transactions of an order, which runs more urgent orders that are waiting, on the same goroutine,
// before it returns. finish, if not nil, runs outside the slot and does the I/O: publishing, records.
//
// The error of the handler, else that of finish, is the verdict. nil: the order is done. A
// *order.Reason: refused, and recorded already. Anything else: delivered again after
// retry.Delay, or a backoff, without a limit of count.
type InHandler = func(ctx context.Context, d order.Delivery, yield func()) (finish func(context.Context) error, err error)

// ConsumeIn feeds IN to h in the given number of slots until ctx ends. Selection is
// weighted-strict: the most urgent class first, but a class that waits gets one turn after 16 of
// the more urgent. Finishing is bounded per class (1024 orders, 64 MiB), so that a class that can't
// be published does not hold back another. The context of h and finish ends DrainTimeout after ctx.
func (b *Bus) ConsumeIn(ctx context.Context, slots int, h InHandler) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(DrainTimeout, stop) })()

	p := &pool{queue: newQueue(room), handle: h, m: b.m, log: b.log}
	detach := b.tap.attach(p)
	defer detach()
	var pullers []*puller
	for _, class := range order.Priorities {
		pl, err := b.inPuller(work, class, p)
		if err != nil {
			return err
		}
		pullers = append(pullers, pl)
	}
	pulls, pullCtx := errgroup.WithContext(ctx)
	for _, pl := range pullers {
		pulls.Go(func() error { return pl.run(pullCtx) })
	}
	pulls.Go(func() error { return p.progress(pullCtx) })
	var taken sync.WaitGroup
	for range max(slots, 1) {
		taken.Go(func() { p.slot(work) })
	}
	<-pullCtx.Done()
	detach()
	for _, j := range p.queue.close() {
		p.giveUp(work, j)
	}
	err := pulls.Wait()
	p.settle(work, &taken)
	if p.hand != nil {
		for _, pl := range pullers {
			pl.collect(work, p.hand.waiting)
		}
	}
	return err
}

func (b *Bus) inPuller(ctx context.Context, class order.Priority, p *pool) (*puller, error) {
	l, err := b.links.link(lane{useWork, class})
	if err != nil {
		return nil, err
	}
	stream := subjects.StreamIn(class)
	life := &tenure{link: l, clock: b, since: b.Now(), reconnects: l.reconnects()}
	bodies := &bodies{link: l, stream: stream}
	pl := &puller{
		link: l, stream: stream, durable: subjects.WorkerDurable, stage: stageIn, priority: class,
		pull: prefetch(class, b.topo.MaxBody+subjects.HeaderRoom),
		create: func(ctx context.Context) error {
			_, err := l.js.CreateOrUpdateConsumer(ctx, stream, b.workerConsumer(ctx))
			return err
		},
		each:  func(m jetstream.Msg) news { return p.receive(ctx, class, bodies, life.began(), m) },
		hurry: b.tap.hurried(class), standsBack: p.hand == nil,
		idle:     func(context.Context, *jetstream.ConsumerInfo) { life.began() }, // after each opening
		leftover: func(m jetstream.Msg) { p.handBack(ctx, m) },
		m:        b.m, log: b.log,
	}
	if p.hand != nil {
		pl.linger = b.linger()
		pl.passer = b.passer(pl, handPassage{hand: p.hand, priority: class})
	}
	return pl, nil
}

// reconnectMargin is how long after a connection began what was stored still counts as older: the
// clocks of server and process differ a little.
const reconnectMargin = time.Second

// tenure is how long a connection has been the same. It is used by one goroutine.
type tenure struct {
	link       *link
	clock      interface{ Now() time.Time }
	since      time.Time
	reconnects uint64
}

// began is when the present connection was made at the latest, on the bus clock. What was stored
// before may have been handed out by a server that has forgotten it.
func (t *tenure) began() time.Time {
	if n := t.link.reconnects(); n != t.reconnects {
		t.reconnects, t.since = n, t.clock.Now()
	}
	return t.since
}

// seen reports whether d may have been handed out before, over a connection made at connected.
func seen(d order.Delivery, connected time.Time) bool {
	return d.Deliveries > 1 || d.StoredAt.Before(connected.Add(reconnectMargin))
}

// pool runs jobs in slots and settles them.
type pool struct {
	queue  *queue
	handle InHandler
	m      *metrics
	log    *slog.Logger
	hand   *hand // what the tap has in hand; nil: it is off
	// again says that an order of the class has to be handed out again; nil: whoever reads is told by the server.
	again func(order.Priority)

	finishing sync.WaitGroup
}

// receive decodes a message and queues it, unless the tap has it in hand; it blocks while the class has
// no room.
func (p *pool) receive(ctx context.Context, class order.Priority, from *bodies, connected time.Time, m jetstream.Msg) news {
	p.m.delivered.WithLabelValues(stageIn, class.String()).Inc()
	if subjects.IsVoid(m.Subject()) {
		p.answer(ctx, m, m.Ack)
		return newsFresh
	}
	if p.hand != nil && p.matched(ctx, m) {
		return newsKnown
	}
	d, err := delivery(m)
	if err == nil && d.Order.Priority != class {
		err = fmt.Errorf("%w: class %s", subjects.ErrHeader, d.Order.Priority)
	}
	if err != nil {
		undecodable(ctx, p.m, p.log, stageIn, class, m, err)
		p.answer(ctx, m, m.Ack)
		return newsFresh
	}
	d.Seen = seen(d, connected)
	if d.Deliveries > 1 {
		p.m.redelivered.WithLabelValues(stageIn, class.String()).Inc()
	}
	if d.Order.Body == nil {
		if p.hand == nil {
			p.handBack(ctx, m)
			return newsForeign
		}
		// What was in hand may be forgotten after a while; by then it can only end again as expired.
		d.Seen = d.Seen || time.Since(d.StoredAt) > p.hand.forget-subjects.AckWaitMargin
		if !p.complete(ctx, from, &d, m) {
			return newsFresh
		}
	}
	if !p.queue.put(&job{msg: m, delivery: d, since: time.Now()}) {
		p.handBack(ctx, m)
	}
	return newsFresh
}

// matched takes m when it is the copy of an order in hand, and answers it if that has ended.
func (p *pool) matched(ctx context.Context, m jetstream.Msg) bool {
	a, ok := subjects.AcceptOf(m.Headers())
	if !ok {
		return false
	}
	meta, err := m.Metadata()
	if err != nil {
		return false
	}
	answer, known := p.hand.match(a, m, meta.Sequence.Stream, meta.Timestamp)
	if answer != nil {
		p.answer(ctx, m, answer)
	}
	return known
}

// complete reads the body that d came without; false: m is answered, as there is none to be had.
func (p *pool) complete(ctx context.Context, from *bodies, d *order.Delivery, m jetstream.Msg) bool {
	body, err := from.of(ctx, d)
	switch {
	case err == nil:
		d.Order.Body, d.Size = body, len(body)
		p.m.fetched.WithLabelValues(d.Order.Priority.String()).Inc()
		return true
	case errors.Is(err, jetstream.ErrMsgNotFound):
		undecodable(ctx, p.m, p.log, stageIn, d.Order.Priority, m, err)
		p.answer(ctx, m, m.Ack)
	default:
		p.log.LogAttrs(ctx, slog.LevelWarn, "order can't be read and goes back",
			slog.String("subject", m.Subject()), slog.Uint64("sequence", d.Sequence), slog.Any("error", err))
		p.answer(ctx, m, func() error { return m.NakWithDelay(bodyDelay) })
	}
	return false
}

// slot runs jobs until the queue closes.
func (p *pool) slot(ctx context.Context) {
	for {
		j := p.queue.take()
		if j == nil {
			return
		}
		p.run(ctx, j)
	}
}

// run is one job in its slot. Each nested job is more urgent than the one that yields to it, so
// the nesting is at most as deep as there are classes.
func (p *pool) run(ctx context.Context, j *job) {
	yield := func() {
		for range favour { // an endless stream of urgent orders must not starve the one begun
			urgent := p.queue.takeAbove(j.delivery.Order.Priority)
			if urgent == nil {
				return
			}
			p.m.nested.Inc()
			p.run(ctx, urgent)
		}
	}
	finish, err := p.handle(ctx, j.delivery, yield)
	if j.tapped == nil && (err != nil || finish == nil) {
		p.verdict(ctx, j, err)
		return
	}
	p.finishing.Go(func() { p.conclude(ctx, j, finish, err) }) // bounded: j holds its place in the queue until then
}

// conclude does what follows the slot, a tapped order's once it is known to be stored (CORRECTNESS 21).
func (p *pool) conclude(ctx context.Context, j *job, finish func(context.Context) error, err error) {
	if t := j.tapped; t != nil && !t.await(ctx, &j.delivery) {
		p.queue.done(j)
		return
	}
	if err == nil && finish != nil {
		err = finish(ctx)
	}
	p.verdict(ctx, j, err)
}

// verdict tells the server what became of j.
func (p *pool) verdict(ctx context.Context, j *job, err error) {
	defer p.queue.done(j)
	class := j.delivery.Order.Priority.String()
	switch {
	case err == nil:
		p.m.verdicts.WithLabelValues(class, "ack").Inc()
		p.ended(ctx, j, stateDone, 0)
	case order.AsReason(err) != nil:
		p.m.verdicts.WithLabelValues(class, "refuse").Inc()
		p.ended(ctx, j, stateDone, 0) // its record is written; Term would only add an advisory
	default:
		p.m.verdicts.WithLabelValues(class, "nak").Inc()
		d, _ := retry.Delay(err)
		if d <= 0 {
			d = retry.Backoff(j.delivery.Deliveries-1, 50*time.Millisecond, 5*time.Second)
		}
		p.log.LogAttrs(ctx, slog.LevelDebug, "order goes back", slog.String("id", j.delivery.Order.ID.String()),
			slog.Duration("delay", d), slog.Any("error", err))
		p.ended(ctx, j, stateFailed, d)
	}
}

// ended answers j's message, or leaves that to when it comes.
func (p *pool) ended(ctx context.Context, j *job, as tapState, delay time.Duration) {
	m := j.msg
	if j.tapped != nil {
		if m = j.tapped.end(as, delay); m == nil {
			return
		}
	}
	if as == stateDone {
		p.answer(ctx, m, m.Ack)
		return
	}
	if p.again != nil {
		p.again(j.delivery.Order.Priority)
	}
	p.answer(ctx, m, func() error { return m.NakWithDelay(delay) })
}

// answer sends an acknowledgement. One that is lost costs a repeat, which its id makes harmless.
func (p *pool) answer(ctx context.Context, m jetstream.Msg, send func() error) {
	if err := send(); err != nil {
		p.log.LogAttrs(ctx, slog.LevelDebug, "acknowledgement not sent",
			slog.String("subject", m.Subject()), slog.Any("error", err))
	}
}

// handBack returns an order that was not begun, so that another process gets it at once.
func (p *pool) handBack(ctx context.Context, m jetstream.Msg) { p.answer(ctx, m, m.Nak) }

// giveUp lets go of a job that was not begun.
func (p *pool) giveUp(ctx context.Context, j *job) {
	m := j.msg
	if j.tapped != nil {
		m = j.tapped.release()
	}
	if m != nil {
		p.handBack(ctx, m)
	}
}

// progress tells the server about orders that take long, so that they are not handed out twice.
func (p *pool) progress(ctx context.Context) error {
	for retry.Pause(ctx, progressTick) {
		for _, j := range p.queue.stale(time.Now(), progressAge) {
			if m := j.message(); m != nil {
				p.answer(ctx, m, m.InProgress)
			}
		}
		if p.hand != nil {
			p.hand.tidy(time.Now())
		}
		for _, class := range order.Priorities {
			jobs, bytes := p.queue.load(class)
			p.m.held.WithLabelValues(class.String()).Set(float64(jobs))
			p.m.heldBytes.WithLabelValues(class.String()).Set(float64(bytes))
		}
	}
	return nil
}

// settle waits for what was begun; its context ends after DrainTimeout, so this does.
func (p *pool) settle(ctx context.Context, taken *sync.WaitGroup) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var reports sync.WaitGroup
	reports.Go(func() { _ = p.progress(ctx) })
	taken.Wait()
	p.finishing.Wait()
	cancel()
	reports.Wait()
}
