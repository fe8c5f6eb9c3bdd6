package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/order"
	"millrace/subjects"
)

// clockMargin is how far the clocks of a door, a worker and a server may be apart, and more.
const clockMargin = 2 * time.Second

// Ends decides which end counts for an order that more than one worker holds or held: that it is in
// OK, or one record on REJECTED.
//
// The arbiter is the table of message ids of the order's OK stream. Whoever stores the order there,
// and whoever claims its end, publishes under the same message id, so the server lets one of them
// win, whatever each of them knew. A claim has a subject that no consumer takes for an order's, and
// carries the entry that is to be recorded, so that anybody can finish what its author began.
//
// The table knows what was stored within its window, and after a restart of the server what was not
// purged since: everything younger than orders.max_age. About older orders, which have expired all,
// the streams are asked: OK for what is still there, then DONE, where everything that was purged from
// OK has its records, then REJECTED. In this order, as an order goes from OK to DONE.
type Ends struct {
	bus *Bus
	// maxAge is how long the table knows an id for sure, window how long if the server lives.
	maxAge, window time.Duration

	rejected, done *past
	ok             [len(order.Priorities) + 1]*past
}

// Ends returns the arbiter. accepts reads the acceptances out of a batch of ledger entries.
func (b *Bus) Ends(accepts func(batch []byte) ([]order.AcceptID, error)) *Ends {
	e := &Ends{bus: b, maxAge: b.topo.MaxAge - clockMargin, window: b.topo.MaxAge + subjects.AckWaitMargin - clockMargin}
	inBatch := func(m *nats.Msg, _ string) ([]order.AcceptID, error) { return accepts(m.Data) }
	e.rejected, e.done = newPast(b, subjects.StreamRejected, inBatch), newPast(b, subjects.StreamDone, inBatch)
	for _, p := range order.Priorities {
		e.ok[p] = newPast(b, subjects.StreamOK(p), inOrder)
	}
	return e
}

// inOrder reads the acceptance of a message of OK.
func inOrder(m *nats.Msg, subject string) ([]order.AcceptID, error) {
	if subjects.IsVoid(subject) {
		return nil, nil
	}
	o, err := subjects.DecodeOrder(m.Header, nil)
	if err != nil {
		return nil, nil //nolint:nilerr // no target can read it either, so it has no end there
	}
	return []order.AcceptID{o.Accept}, nil
}

// ClaimEnd keeps o out of OK from now on and returns the entry to be recorded for it: the given one,
// or that of the worker whose claim came first. nil means that nothing is to be recorded: o is in OK,
// or was, or has its record. It tries until ctx ends, as OK may be full; an error says nothing about
// the claim, which can be made again.
func (e *Ends) ClaimEnd(ctx context.Context, o *order.Order, entry []byte) (claimed []byte, err error) {
	r, err := e.claim(ctx, o, entry)
	if err != nil {
		return nil, fmt.Errorf("claim end of %s: %w", o.Accept, err)
	}
	now := e.bus.Now()
	old := now.Sub(o.Accept.Received()) >= e.maxAge
	if r.Duplicate {
		held, err := e.at(ctx, o.Priority, r.Sequence)
		switch {
		case err == nil && !subjects.IsVoid(held.Subject):
			return nil, nil
		case err == nil:
			entry = held.Data
		case !errors.Is(err, jetstream.ErrMsgNotFound) || !old: // young: a replica that is late
			return nil, fmt.Errorf("claim end of %s: %w", o.Accept, err)
		}
	}
	if old {
		ended, err := e.ended(ctx, o, now)
		if err != nil {
			return nil, fmt.Errorf("claim end of %s: %w", o.Accept, err)
		}
		if ended {
			return nil, nil
		}
	}
	return entry, nil
}

// Recorded reports whether REJECTED has a record of o.
func (e *Ends) Recorded(ctx context.Context, o *order.Order) (bool, error) {
	return e.rejected.has(ctx, o.Accept, time.Time{})
}

func (e *Ends) claim(ctx context.Context, o *order.Order, entry []byte) (order.Receipt, error) {
	l, err := e.bus.links.link(lane{useStore, o.Priority})
	if err != nil {
		return order.Receipt{}, fmt.Errorf("%w: %w", order.ErrUnavailable, err)
	}
	subject, err := subjects.Void(subjects.StreamOK(o.Priority))
	if err != nil {
		return order.Receipt{}, err
	}
	return e.bus.insist(ctx, l, stageOK, o.Priority, &nats.Msg{Subject: subject, Data: entry, Header: nats.Header{
		jetstream.MsgIDHeader: {subjects.OKMsgID(o)},
	}})
}

// at reads what is stored at a sequence of class p's OK.
func (e *Ends) at(ctx context.Context, p order.Priority, sequence uint64) (*jetstream.RawStreamMsg, error) {
	s, err := e.ok[p].open(ctx)
	if err != nil {
		return nil, err
	}
	return s.GetMsg(ctx, sequence)
}

// ended looks for what the table of message ids may have forgotten.
func (e *Ends) ended(ctx context.Context, o *order.Order, now time.Time) (bool, error) {
	known := now.Add(-e.window) // younger than this, the table has it if the stream has
	old := o.Accept.Received().Before(known)
	if old {
		if ended, err := e.ok[o.Priority].has(ctx, o.Accept, known.Add(2*clockMargin)); ended || err != nil {
			return ended, err
		}
	}
	if ended, err := e.done.has(ctx, o.Accept, time.Time{}); ended || err != nil || !old {
		return ended, err // a younger record is not stored twice
	}
	return e.rejected.has(ctx, o.Accept, time.Time{})
}
