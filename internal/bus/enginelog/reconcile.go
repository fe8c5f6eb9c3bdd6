package enginelog

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/subjects"
)

// errMissed: a message that the server sent did not arrive; nobody acknowledges.
var errMissed = errors.New("a message did not arrive")

// finding is what the stream has of one record.
type finding struct {
	whole    bool
	try      int    // the highest of its parts
	sequence uint64 // of the last message of a whole record
	parts    map[int]bool
	count    int
}

// take is what the stream has of it, and forgets it: what is sent from now on is known by its
// acknowledgement.
func (p *publisher) take(it *item) *finding {
	id := it.message(0, 0)
	f, ok := p.found[id.String()]
	if !ok {
		return &finding{whole: p.stored != nil && p.stored.has(id)}
	}
	delete(p.found, id.String())
	return f
}

// reconcile reads from the stream which of the records that are to be sent are there already. What was under
// way when the bus or the process went is the next one of the journal, and of that it is known how many parts are
// there. But where the spool's place was lost, or could not be written, any number of them may be stored: so of
// all others it is noted whether they are. ctx has no deadline: each request has
// the library's own, as a request without a responder is not answered at all.
func (p *publisher) reconcile(ctx context.Context) error {
	p.found, p.stored = nil, nil
	if p.nc.Status() != nats.CONNECTED {
		return nats.ErrDisconnected
	}
	s, err := p.js.Stream(ctx, subjects.StreamEngine)
	if err != nil {
		return fmt.Errorf("look at %s: %w", subjects.StreamEngine, err)
	}
	state := s.CachedInfo().State
	after := p.j.sequence()
	if after > state.LastSeq {
		after = 0 // another life of the stream
	}
	candidates := p.candidates()
	if len(candidates) == 0 {
		if after == 0 && state.LastSeq > 0 {
			p.j.begin(state.LastSeq) // what is there is not of this spool
		}
		return nil
	}
	if after >= state.LastSeq {
		return nil
	}
	stored := newIDSet()
	err = scan(ctx, p.js, s, scanRange{from: after + 1, until: state.LastSeq, bodies: headersOnly}, func(m jetstream.Msg, seq uint64) error {
		note(candidates, m.Headers(), seq)
		stored.note(m.Headers())
		return nil
	})
	if err != nil {
		return fmt.Errorf("look at %s: %w", subjects.StreamEngine, err)
	}
	p.stored, p.found = stored, candidates
	return nil
}

// candidates is the record that was sent last; none: nothing is left to be sent.
func (p *publisher) candidates() map[string]*finding {
	it, _, ok := p.j.next()
	p.j.rewind()
	if !ok {
		return nil
	}
	return map[string]*finding{it.message(0, 0).String(): {}}
}

// note enters a message of the stream among the findings.
func note(candidates map[string]*finding, h nats.Header, seq uint64) {
	m, ok := subjects.ParseEngineMessage(h.Get(jetstream.MsgIDHeader))
	if !ok {
		return
	}
	whole := m
	whole.Try, whole.Index = 0, 0
	f := candidates[whole.String()]
	switch {
	case f == nil || m.Try < f.try:
		return
	case m.Try == 0:
		f.whole, f.sequence = true, seq
		return
	case m.Try > f.try:
		f.try, f.parts, f.count = m.Try, make(map[int]bool), 0
	}
	if index, count, ok := subjects.ParseChunk(h.Get(subjects.HeaderChunk)); ok && index == m.Index {
		f.parts[index], f.count = true, count
		if len(f.parts) == f.count {
			f.whole, f.sequence = true, seq
		}
	}
}
