package peerlink

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/subjects"
)

const (
	// receiver is the consumer of Receive on each stream of a peer.
	receiver = "receiver"
	// receiverAckWait is how long an order may be in hand without a word.
	receiverAckWait = 30 * time.Second
	// deadRequests is how long a server that takes leafnodes answers requests of who has gone, to nobody and
	// over and over, which puts the orders out of their order (v2.15.2); a margin included.
	deadRequests = 2200 * time.Millisecond
	// Orders that are read ahead, as many and as many bytes as are there at a time; the server queues much more
	// for a connection before it takes it for slow.
	readAhead      = 64
	readAheadBytes = 32 << 20
	// sourceHeader is where the server notes the origin's sequence.
	sourceHeader = "Nats-Stream-Source"
)

// Message is an order as a peer sent it. Nothing in it has been verified: Order holds what the peer claims.
type Message struct {
	Order          *order.Order // nil: there is no header that can be read; its Body is Body
	Body           []byte
	Sequence       uint64 // in our stream of this peer and class
	OriginSequence uint64 // in the origin's stream; zero: not known
	ArrivedAt      time.Time
	SentAt         time.Time // when the peer stored it for us, on its clock, as it claims; zero: not known
	Redelivered    bool      // it may have been handed on before
}

// Receive calls h for each order of class p that the peer sends, one after the other and in the peer's order,
// until ctx ends. When h returns nil the order is done; otherwise h is called again for it, after a pause, and
// what is behind it waits. An order may come again after a restart. ErrNoPeer when there is no such peer.
func (l *Links) Receive(ctx context.Context, peer string, p order.Priority, h func(ctx context.Context, m Message) error) error {
	for n := 0; ; n++ {
		if _, err := l.opened(); err != nil {
			return err
		}
		if !l.fetches(peer) {
			return fmt.Errorf("%w: %s", ErrNoPeer, peer)
		}
		err := l.receive(ctx, peer, p, func(ctx context.Context, m Message) error {
			n = 0
			return h(ctx, m)
		})
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was ended
		}
		l.log.LogAttrs(ctx, slog.LevelDebug, "receiving from peer interrupted", slog.String("peer", peer),
			slog.String("priority", p.String()), slog.Any("error", err))
		if !retry.Pause(ctx, retry.Backoff(n, 50*time.Millisecond, time.Second)) {
			return nil
		}
	}
}

// fetches reports whether there is such a peer and we fetch from it.
func (l *Links) fetches(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.peers[name]
	return p != nil && p.URL != ""
}

func (l *Links) receive(ctx context.Context, peer string, p order.Priority, h func(context.Context, Message) error) error {
	if !retry.Pause(ctx, time.Until(l.ended(peer, p).Add(deadRequests))) {
		return nil
	}
	cons, err := l.js(p).CreateOrUpdateConsumer(ctx, stream(peer, p), jetstream.ConsumerConfig{
		Durable: receiver, AckPolicy: jetstream.AckExplicitPolicy, AckWait: receiverAckWait, MaxDeliver: -1, MaxAckPending: -1,
	})
	if err != nil {
		return err
	}
	// Nobody else receives: what is not done was begun by who is no more, and need not wait.
	begun := cons.CachedInfo().Delivered.Stream
	if cons.CachedInfo().NumAckPending > 0 {
		if _, err := l.js(p).ResetConsumer(ctx, stream(peer, p), receiver); err != nil {
			return err
		}
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var busy sync.Mutex
	c, err := cons.Consume(func(m jetstream.Msg) {
		busy.Lock()
		defer busy.Unlock()
		if ctx.Err() != nil {
			return // it comes again
		}
		if err := handle(ctx, m, begun, h); err != nil {
			stop(err)
		}
	}, jetstream.PullMaxMessagesWithBytesLimit(readAhead, readAheadBytes))
	if err != nil {
		return err
	}
	defer l.end(peer, p)
	closed := c.Closed()
	select {
	case <-ctx.Done():
	case <-closed: // the consumer is gone
		stop(errInterrupted)
	}
	// The server hears of it before whatever is asked next over this connection: otherwise it would hand the next
	// order to nobody.
	c.Stop()
	<-closed
	busy.Lock() // until the order in hand is done with
	defer busy.Unlock()
	return context.Cause(ctx)
}

// ended is when a peer's orders of one class were received last; zero: not yet.
func (l *Links) ended(peer string, p order.Priority) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.receivedUntil[stream(peer, p)]
}

func (l *Links) end(peer string, p order.Priority) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.receivedUntil[stream(peer, p)] = time.Now()
}

// handle hands one message on until that succeeds. Up to begun messages may have been handed on before.
func handle(ctx context.Context, m jetstream.Msg, begun uint64, h func(context.Context, Message) error) error {
	if subjects.IsVoid(m.Subject()) {
		return m.Ack()
	}
	meta, err := m.Metadata()
	if err != nil {
		return err
	}
	msg := decode(m.Headers(), m.Data(), meta)
	msg.Redelivered = msg.Redelivered || msg.Sequence <= begun
	for n := 0; ; n++ {
		if err := h(ctx, msg); err == nil {
			return m.Ack()
		}
		if err := m.InProgress(); err != nil {
			return err
		}
		if !retry.Pause(ctx, retry.Backoff(n, 20*time.Millisecond, time.Second)) {
			return ctx.Err()
		}
		msg.Redelivered = true
	}
}

// decode reads what a peer sent; of its headers only the order's are looked at.
func decode(h nats.Header, body []byte, meta *jetstream.MsgMetadata) Message {
	m := Message{
		Body: body, Sequence: meta.Sequence.Stream, OriginSequence: originSequence(h.Get(sourceHeader)),
		ArrivedAt: meta.Timestamp, Redelivered: meta.NumDelivered > 1,
	}
	if o, err := subjects.DecodeOrder(h, body); err == nil {
		m.Order = o
		if t, ok := subjects.DecodeTrail(h, o.Accept); ok {
			m.SentAt = t.DecidedAt
		}
	}
	return m
}

// originSequence reads the server's note: stream, sequence, and more.
func originSequence(note string) uint64 {
	fields := strings.Fields(note)
	if len(fields) < 2 {
		return 0
	}
	n, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return n
}
