package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// strangeAfter is how long after a message was stored it may be in nobody's hand here until it is taken
	// for one that was not tapped: the answer to its publish is under way that long at most, as a rule.
	strangeAfter = time.Second
	// drainFor is how long what was handed out may take to be acknowledged without anything being read:
	// what has to be handed out again comes only to who reads.
	drainFor = 2 * time.Second
	// restAfter is how long nothing may come until somebody waits at the server again.
	restAfter = 5 * time.Second
)

// passer moves a durable consumer over the copies of orders that were tapped and have ended, without
// reading them. It is for a process that has the server to itself: nobody else takes from the consumer,
// and a message that this process did not tap is the exception.
//
// Reading costs more than the time it takes: a block of messages that was read stays in the server's memory
// for ten seconds, and its buffer is not used for the next one. Unread, a stream needs one buffer.
//
// The consumer is moved only while nothing that it handed out waits for an acknowledgement, over an unbroken
// run of messages each of which this process stored, handled and ended. So a kill at any moment brings back
// what would have come back if the copies had been read and acknowledged one by one.
type passer struct {
	link    *link
	stream  string
	durable string
	ends    passage
	heard   func(*jetstream.ConsumerInfo)
	moved   prometheus.Counter

	created time.Time // of the consumer that at is of
	at      uint64    // where the consumer stands
	known   bool      // whether at is: nothing was read since it was learned
	newest  uint64    // the stream's last sequence at the latest look
	mark    uint64    // the same at markAt
	markAt  time.Time
	last    uint64    // the same, strangeAfter before markAt at the latest
	quiet   time.Time // since when newest is the same
	owed    time.Time // since when something waits for its acknowledgement; zero: nothing does
}

// passage is what this process knows of the orders of one stream that it tapped.
type passage interface {
	// passable is up to where everything above at has ended. stranger: a message up to last is not known,
	// or has to be handed out again.
	passable(at, last uint64) (to uint64, stranger bool)
	// pass forgets what is known up to a sequence.
	pass(to uint64)
	// forget forgets all sequences: they were another stream's.
	forget()
}

// way is how a lingering intake goes on.
type way uint8

const (
	wayLinger way = iota + 1 // nothing has to be read
	wayRead                  // read what is there
	wayWait                  // nothing comes: wait for the next message
)

// passer is the passer of pl's consumer; nil where copies are read.
func (b *Bus) passer(pl *puller, ends passage) *passer {
	if b.tap == nil || !b.tap.alone {
		return nil
	}
	return &passer{
		link: pl.link, stream: pl.stream, durable: pl.durable, ends: ends, heard: pl.note,
		moved: b.m.passed.WithLabelValues(pl.stage, pl.priority.String()),
	}
}

// opened hears of the consumer when it is looked up.
func (p *passer) opened(info *jetstream.ConsumerInfo) {
	p.known, p.last, p.mark = false, 0, 0
	if !p.created.IsZero() && !p.created.Equal(info.Created) {
		p.ends.forget()
	}
	p.created = info.Created
}

// reading says that the consumer is about to hand out messages, so where it stands has to be learned again.
func (p *passer) reading() {
	if p != nil {
		p.known = false
	}
}

// step moves the consumer as far as it goes. It takes one request to the server. The error is that there is
// no such consumer any more.
func (p *passer) step(ctx context.Context) (way, error) {
	info, err := p.look(ctx)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
		return 0, err
	case err == nil && !info.Created.Equal(p.created):
		return 0, fmt.Errorf("consumer was made again: %w", jetstream.ErrConsumerNotFound)
	case err != nil:
		p.known = false
		return wayRead, nil //nolint:nilerr // reading tells what it is
	}
	now := time.Now()
	p.at, p.known = info.Delivered.Stream, info.NumAckPending == 0
	idle := p.idle(p.at+info.NumPending, now)
	p.heard(info)
	if !p.known {
		return p.drain(now), nil
	}
	p.owed = time.Time{}
	p.ends.pass(p.at)
	if idle && info.NumPending == 0 {
		p.known, p.quiet = false, time.Time{}
		return wayWait, nil
	}
	return wayLinger, nil
}

// drain waits for the acknowledgements of what the consumer has handed out.
func (p *passer) drain(now time.Time) way {
	if p.owed.IsZero() {
		p.owed = now
	}
	if _, stranger := p.ends.passable(p.at, p.last); stranger || now.Sub(p.owed) > drainFor {
		p.owed = time.Time{}
		return wayRead
	}
	return wayLinger
}

// idle notes the stream's last sequence and reports whether it has been the same for long.
func (p *passer) idle(newest uint64, now time.Time) bool {
	if newest != p.newest || p.quiet.IsZero() {
		p.newest, p.quiet = newest, now
	}
	if now.Sub(p.markAt) > strangeAfter {
		p.last, p.mark, p.markAt = p.mark, newest, now
	}
	return now.Sub(p.quiet) > restAfter
}

// errStranger: there is a message that nobody here has.
var errStranger = errors.New("a message that was not tapped")

// look asks for the consumer's state, moving it on the way if it can be.
func (p *passer) look(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if p.known {
		to, stranger := p.ends.passable(p.at, p.last)
		if stranger {
			return nil, errStranger
		}
		if to > p.at {
			r, err := p.link.js.ResetConsumerToSequence(ctx, p.stream, p.durable, to+1)
			if err != nil {
				return nil, err
			}
			p.moved.Add(float64(to - p.at))
			return r.ConsumerInfo, nil
		}
	}
	c, err := p.link.js.Consumer(ctx, p.stream, p.durable)
	if err != nil {
		return nil, err
	}
	return c.CachedInfo(), nil
}

// finish moves the consumer once more, when the work ends.
func (p *passer) finish(ctx context.Context) {
	if w, err := p.step(ctx); err == nil && w == wayLinger {
		_, _ = p.step(ctx) // it was looked at; now it is moved
	}
}
