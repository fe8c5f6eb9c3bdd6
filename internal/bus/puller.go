package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
	"millrace/internal/retry"
)

const (
	// silence is how long nothing may arrive while messages wait before the consumer is opened
	// again; suspicion is the second look that a busy neighbour's consumer gets first.
	silence   = 2 * time.Second
	suspicion = 500 * time.Millisecond
	// standBackTick is how often a puller that stands back looks whether it still has to; collectWait
	// bounds collecting copies at the end.
	standBackTick = 5 * time.Second
	collectWait   = time.Second
	// idleTick is how often an idle puller looks whether its connection is still the same.
	idleTick = 250 * time.Millisecond
)

// puller hands out one durable consumer's messages for as long as it runs, whatever happens to the
// server, the connection or the consumer. It is used by one goroutine.
type puller struct {
	link     *link
	stream   string
	durable  string
	stage    string
	priority order.Priority
	pull     pull
	// create makes the consumer when it is gone.
	create func(ctx context.Context) error
	// each gets every message, in order; it may block, which is the backpressure.
	each func(m jetstream.Msg) news
	// linger is how long messages that are no news may stay away; hurry, if set, says that one waits.
	linger time.Duration
	hurry  <-chan struct{}
	// passer, if set, makes reading copies unnecessary.
	passer *passer
	// standsBack: a consumer without bodies is somebody else's alone.
	standsBack bool
	// idle, if set, hears the consumer's state when nothing arrived for a while and after each
	// opening.
	idle func(ctx context.Context, info *jetstream.ConsumerInfo)
	// leftover, if set, gets what arrived but was not handed out when ctx ended.
	leftover func(m jetstream.Msg)

	m   *metrics
	log *slog.Logger

	suspect uint64 // consumer sequence at the first look, plus one; zero: no suspicion
}

// news is what a message was to who got it.
type news uint8

const (
	newsFresh   news = iota + 1
	newsKnown        // a copy of an order that is in hand
	newsForeign      // nothing for this process: the consumer is somebody else's
)

var errTapped = errors.New("consumer belongs to the process with the embedded server, which taps its orders")

// pull is one request for messages.
type pull struct {
	messages int // at most
	bytes    int // at most, all messages together; zero: no limit
}

// prefetch returns how much of a class may wait in this process. High is taken eagerly; the
// rest sparingly, as what waits here can't be worked on elsewhere. The byte limit is three of the
// largest messages: a limit below one delivers nothing at all.
func prefetch(p order.Priority, maxMessage int64) pull {
	switch p {
	case order.PriorityHigh:
		return pull{messages: 256}
	case order.PriorityMedium:
		return pull{messages: 32, bytes: int(3 * maxMessage)}
	default:
		return pull{messages: 16, bytes: int(3 * maxMessage)}
	}
}

// run hands out messages until ctx ends.
func (p *puller) run(ctx context.Context) error {
	for n := 0; ctx.Err() == nil; {
		served, reason, err := p.session(ctx)
		if ctx.Err() != nil {
			break
		}
		if p.link.nc.IsClosed() { // for good: the process is ending
			<-ctx.Done()
			break
		}
		p.m.reopened.WithLabelValues(p.stage, p.priority.String(), reason).Inc()
		p.log.LogAttrs(ctx, slog.LevelWarn, "consumer opened again", slog.String("stream", p.stream),
			slog.String("consumer", p.durable), slog.String("reason", reason), slog.Any("error", err))
		if served {
			n = 0
		}
		retry.Pause(ctx, retry.Backoff(n, 20*time.Millisecond, time.Second))
		n++
	}
	return nil //nolint:nilerr // ended as asked
}

// session opens the consumer once and reads it until it has to be opened again; served says
// whether it handed out anything.
func (p *puller) session(ctx context.Context) (served bool, reason string, err error) {
	c, err := p.open(ctx)
	if err != nil {
		return false, reopenMissing, err
	}
	if p.standsBack && bare(c) {
		p.standBack(ctx, c)
		return false, reopenTapped, errTapped
	}
	in := p.intake(c)
	if err := in.start(ctx); err != nil {
		return false, reopenClosed, err
	}
	defer p.finish(ctx, in)
	p.suspect = 0
	connected := p.link.reconnects()
	wait, idle := silence, time.Duration(0)
	for {
		// What the server had on its way when the connection broke is gone: ask anew, at once.
		if now := p.link.reconnects(); now != connected {
			return served, reopenReconnect, nil
		}
		msg, err := in.next(ctx, idleTick)
		switch {
		case ctx.Err() != nil:
			if err == nil && p.leftover != nil {
				p.leftover(msg)
			}
			return served, reopenClosed, ctx.Err()
		case err == nil:
			p.suspect, wait, idle, served = 0, silence, 0, true
			n := p.each(msg)
			if n == newsForeign {
				return served, reopenTapped, errTapped
			}
			in.was(n)
		case errors.Is(err, errNothing) && in.passing():
			idle = 0 // it looks by itself, and stands still for no other reason
		case errors.Is(err, errNothing):
			if idle += idleTick; idle < wait {
				continue
			}
			silent, missing := p.look(ctx, c)
			if missing {
				return served, reopenMissing, jetstream.ErrConsumerNotFound
			}
			if silent {
				return served, reopenSilent, nil
			}
			if wait, idle = silence, 0; p.suspect != 0 {
				wait = suspicion
			}
		case gone(err):
			return served, reopenMissing, err
		default:
			return served, reopenClosed, err
		}
	}
}

// gone reports whether err says that there is no such consumer.
func gone(err error) bool {
	return errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, nats.ErrNoResponders)
}

// bare reports whether c hands out orders without their bodies: they are tapped.
func bare(c jetstream.Consumer) bool { return c.CachedInfo().Config.HeadersOnly }

// intake receives from c. Copies of tapped orders may gather for a while.
func (p *puller) intake(c jetstream.Consumer) *intake {
	in := &intake{consumer: c, pull: p.pull, hurry: p.hurry}
	if bare(c) {
		in.linger, in.passer = p.linger, p.passer
	}
	return in
}

// open looks the consumer up and makes it if it is gone.
func (p *puller) open(ctx context.Context) (jetstream.Consumer, error) {
	c, err := p.link.js.Consumer(ctx, p.stream, p.durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) && p.create != nil {
		if err = p.create(ctx); err == nil {
			c, err = p.link.js.Consumer(ctx, p.stream, p.durable)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open consumer %s of %s: %w", p.durable, p.stream, err)
	}
	if p.passer != nil {
		p.passer.opened(c.CachedInfo())
	}
	if p.idle != nil {
		p.idle(ctx, c.CachedInfo())
	}
	return c, nil
}

// standBack waits until the consumer is for everybody again.
func (p *puller) standBack(ctx context.Context, c jetstream.Consumer) {
	p.log.LogAttrs(ctx, slog.LevelWarn, "no orders for this process: the node with the embedded server taps its own (nats.tap)",
		slog.String("stream", p.stream), slog.String("consumer", p.durable))
	for retry.Pause(ctx, standBackTick) {
		if info, err := c.Info(ctx); err != nil || !info.Config.HeadersOnly {
			return
		}
	}
}

// collect answers what has ended and whose copy has not come, for at most collectWait; anything else
// that comes goes back.
func (p *puller) collect(ctx context.Context, waiting func() int) {
	end := time.Now().Add(collectWait)
	if p.passer != nil {
		p.passer.finish(ctx)
	}
	for waiting() > 0 && time.Now().Before(end) && ctx.Err() == nil {
		c, err := p.link.js.Consumer(ctx, p.stream, p.durable)
		if err != nil {
			return
		}
		in := &intake{consumer: c}
		if err := in.gather(); err != nil {
			return
		}
		n := 0
		for m := range in.batch.Messages() {
			n++
			p.each(m)
		}
		if n == 0 {
			return
		}
	}
}

// look asks for the consumer's state after nothing arrived for a while. The consumer is silent
// when messages wait and none went to anybody, this process or another, between two looks.
func (p *puller) look(ctx context.Context, c jetstream.Consumer) (silent, missing bool) {
	info, err := c.Info(ctx)
	if err != nil {
		return false, errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound)
	}
	p.note(info)
	if p.idle != nil {
		p.idle(ctx, info)
	}
	if info.NumPending == 0 {
		p.suspect = 0
		return false, false
	}
	before := p.suspect
	p.suspect = info.Delivered.Consumer + 1
	return before == p.suspect, false
}

// note keeps the gauges.
func (p *puller) note(info *jetstream.ConsumerInfo) {
	p.m.pending.WithLabelValues(p.stage, p.priority.String()).Set(float64(info.NumPending))
	p.m.ackPending.WithLabelValues(p.stage, p.priority.String()).Set(float64(info.NumAckPending))
}

// finish ends the pulls. When the work ends, what has arrived already is handed to leftover, which
// gives it back; otherwise it would wait for its acknowledgement to run out.
func (p *puller) finish(ctx context.Context, in *intake) {
	switch {
	case ctx.Err() == nil:
		in.rest(func(m jetstream.Msg) { p.each(m) })
	case p.leftover != nil:
		in.rest(p.leftover)
	default:
		in.cancel()
	}
}
