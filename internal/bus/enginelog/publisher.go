package enginelog

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/retry"
	"millrace/subjects"
)

const (
	// ackTimeout is how long an acknowledgement is waited for.
	ackTimeout = 2 * time.Second
	// partsUnderWay is how many parts of one record are under way at a time: a store that is slow acknowledges
	// the last of many only after ackTimeout, however often they are sent. Each try has half of the one before.
	partsUnderWay = 4
	// chunkMost is the most of a record that one message carries: all of it within what a server takes that
	// nobody configured.
	chunkMost = 1<<20 - subjects.HeaderRoom
	// retryLeast and retryMost bound the pause before publishing begins anew.
	retryLeast = 20 * time.Millisecond
	retryMost  = time.Second
)

// Codes of the JetStream API that the client library does not name.
const (
	codeMessageTooLarge = 10054 // the stream takes no message of that size
	codeHeaderTooLarge  = 10097
)

// publisher publishes what the journal hands out, in its order: a record is sent when the one before it is
// stored. Expecting what is before it (Nats-Expected-Last-Msg-Id) would allow for more under way, but a message
// whose expectation fails stops a replicated stream for good (nats-server 2.15.3). It is used by one goroutine,
// ended aside.
type publisher struct {
	nc    *nats.Conn
	js    jetstream.JetStream
	j     *journal
	log   *slog.Logger
	m     *metrics
	final chan struct{} // closed: end when the journal is empty
	ended chan struct{} // closed when run returns

	flying   *flight             // nil: nothing is under way
	found    map[string]*finding // what the stream has of what is to be sent next, by the record's message id
	stored   *idSet              // the records that it has, of all; nil: none of what is to be sent
	broken   bool                // begin anew at what is not settled
	slow     slowness
	tries    int  // of beginning anew, in a row
	spooling bool // the log was told that records wait
}

// flight is one record under way.
type flight struct {
	it   *item
	mark mark
	acks []jetstream.PubAckFuture // of its messages that were not acknowledged
	// Of a record in parts: its try, the bytes of a part, and how many there are and were sent.
	try, most, parts, sent int
}

// whole says that nothing of the record is left to be sent.
func (f *flight) whole() bool { return f.sent == f.parts }

func newPublisher(nc *nats.Conn, j *journal, timeout time.Duration, log *slog.Logger, m *metrics) (*publisher, error) {
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncTimeout(timeout),
		jetstream.WithPublishAsyncMaxPending(subjects.MaxChunks+partsUnderWay), jetstream.WithDefaultTimeout(ackTimeout))
	if err != nil {
		return nil, err
	}
	return &publisher{
		nc: nc, js: js, j: j, log: log, m: m, broken: true,
		final: make(chan struct{}), ended: make(chan struct{}),
	}, nil
}

// last lets run return as soon as all is stored. It is called once.
func (p *publisher) last() { close(p.final) }

// run publishes until ctx ends, or until nothing is left after last.
func (p *publisher) run(ctx context.Context) error {
	defer close(p.ended)
	for ctx.Err() == nil {
		if p.nc.IsClosed() {
			return nats.ErrConnectionClosed
		}
		if p.broken && !p.resume(ctx) {
			if p.finished() {
				return nil
			}
			continue
		}
		if p.flying == nil && !p.next(ctx) {
			if !p.idle(ctx) {
				return nil
			}
			continue
		}
		p.await(ctx)
	}
	return nil
}

// idle waits until there is something to publish; false: there never will be.
func (p *publisher) idle(ctx context.Context) bool {
	p.calm(ctx)
	if p.finished() {
		return false
	}
	select {
	case <-p.j.wake:
	case <-p.final:
	case <-ctx.Done():
	}
	return true
}

// finished reports whether nothing is left and nothing will come.
func (p *publisher) finished() bool {
	select {
	case <-p.final:
		return p.j.left() == 0
	default:
		return false
	}
}

// next sends the oldest record that is not stored; false: there is none.
func (p *publisher) next(ctx context.Context) bool {
	it, m, ok := p.j.next()
	if !ok {
		return false
	}
	p.flying = &flight{it: it, mark: m}
	find := p.take(it)
	if find.whole {
		p.m.repeats.Inc()
		p.settle(find.sequence)
		return true
	}
	if p.slow.of(it) >= slowTries {
		p.giveUp(ctx)
		return true
	}
	if err := p.send(find.try + 1); err != nil {
		p.interrupt(ctx, err)
	}
	return true
}

// await waits for the oldest acknowledgement of what is under way.
func (p *publisher) await(ctx context.Context) {
	f := p.flying
	if f == nil {
		return
	}
	select {
	case ack := <-f.acks[0].Ok():
		p.acknowledged(ctx, ack)
	case err := <-f.acks[0].Err():
		p.refused(ctx, err)
	case <-ctx.Done():
	}
}

// send publishes the record: as one message, or in parts as the try with this number.
func (p *publisher) send(try int) error {
	f, most := p.flying, p.most()
	if len(f.it.body) <= most {
		return p.message(f.it.message(0, 0).String(), "", f.it.body)
	}
	f.try, f.most, f.parts = try, most, (len(f.it.body)+most-1)/most
	return p.parts()
}

// parts sends the next parts of the record.
func (p *publisher) parts() error {
	f := p.flying
	most := max(partsUnderWay>>p.slow.of(f.it), 1)
	for !f.whole() && len(f.acks) < most {
		f.sent++
		part := f.it.body[(f.sent-1)*f.most : min(f.sent*f.most, len(f.it.body))]
		if err := p.message(f.it.message(f.try, f.sent).String(), subjects.Chunk(f.sent, f.parts), part); err != nil {
			return err
		}
	}
	return nil
}

// most is how much of a record one message carries.
func (p *publisher) most() int {
	server := int(p.nc.MaxPayload())
	return max(min(chunkMost, server-subjects.HeaderRoom, server*3/4), 1<<10)
}

func (p *publisher) message(id, chunk string, data []byte) error {
	f := p.flying
	msg := &nats.Msg{Subject: f.it.subject(), Data: data, Header: nats.Header{jetstream.MsgIDHeader: {id}}}
	if chunk != "" {
		msg.Header[subjects.HeaderChunk] = []string{chunk}
	}
	ack, err := p.js.PublishMsgAsync(msg, jetstream.WithRetryAttempts(0)) // resume looks first what became of it
	if err != nil {
		return err
	}
	f.acks = append(f.acks, ack)
	return nil
}

// acknowledged notes the acknowledgement of the oldest message under way.
func (p *publisher) acknowledged(ctx context.Context, ack *jetstream.PubAck) {
	f := p.flying
	f.acks = f.acks[1:]
	if !f.whole() {
		if err := p.parts(); err != nil {
			p.interrupt(ctx, err)
		}
		return
	}
	if len(f.acks) == 0 {
		p.tries = 0
		p.settle(ack.Sequence)
	}
}

// settle notes that the record in hand is stored.
func (p *publisher) settle(sequence uint64) {
	f := p.flying
	p.flying = nil
	p.j.settle(f.mark, sequence)
	p.m.stored[f.it.kind].Inc()
	p.m.settled.Add(1)
	p.m.seconds.Observe(max(time.Since(f.it.taken), 0).Seconds())
}

// refused decides about a message that was not, or perhaps not, stored.
func (p *publisher) refused(ctx context.Context, err error) {
	f := p.flying
	var api *jetstream.APIError
	if errors.As(err, &api) && (api.ErrorCode == codeMessageTooLarge || api.ErrorCode == codeHeaderTooLarge) ||
		errors.Is(err, nats.ErrMaxPayload) {
		p.m.lose(lostRefused, 1)
		p.log.LogAttrs(ctx, slog.LevelError, "the bus will never take this record, it is lost",
			slog.String("id", f.it.id.String()), slog.Int("bytes", len(f.it.body)), slog.Any("error", err))
		p.j.settle(f.mark, 0)
	}
	if f.parts > 0 && errors.Is(err, jetstream.ErrAsyncPublishTimeout) && p.nc.IsConnected() {
		p.slow.note(f.it) // if the store answers when it is asked what it has
	}
	p.interrupt(ctx, err)
}

// interrupt gives up what is under way: what became of it will be seen in the stream.
func (p *publisher) interrupt(ctx context.Context, cause error) {
	p.broken = true
	p.m.troubles.Inc()
	p.flying = nil
	p.j.rewind()
	if p.tries > 0 && !p.spooling && ctx.Err() == nil {
		p.spooling = true
		p.log.LogAttrs(ctx, slog.LevelWarn, "the bus does not store engine records, they wait in the spool", slog.Any("error", cause))
	}
}

// resume looks what the stream has, so that publishing can go on; false: not now.
func (p *publisher) resume(ctx context.Context) bool {
	if p.tries > 0 && !retry.Pause(ctx, retry.Backoff(p.tries-1, retryLeast, retryMost)) {
		return false
	}
	p.tries++
	if err := p.reconcile(ctx); err != nil {
		p.interrupt(ctx, err)
		return false
	}
	p.broken = false
	return true
}

// calm notes that publishing keeps up.
func (p *publisher) calm(ctx context.Context) {
	if p.spooling && p.j.left() == 0 {
		p.spooling = false
		p.log.LogAttrs(ctx, slog.LevelInfo, "the engine spool is drained")
	}
}
