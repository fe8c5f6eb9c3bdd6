package enginelog

import (
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/internal/engineapi/record"
	"millrace/subjects"
)

const (
	// maxSets and maxSetBytes bound the records in parts that are not whole; above them the oldest is a loss.
	maxSets     = 8
	maxSetBytes = 2 * maxFrame
	// setPatience is for how long, in the stream's time, parts may be missing while other records come:
	// a door that lost its lease may still be draining its spool.
	setPatience = time.Minute
)

// stored is one message of ENGINE.
type stored struct {
	sequence uint64
	at       time.Time
	header   nats.Header
	body     []byte
}

// set is a record of which parts have come.
type set struct {
	id    subjects.EngineMessage // with its try, without an index
	first uint64                 // sequence of its first part
	last  uint64
	at    time.Time
	count int
	parts [][]byte
	bytes int
}

// assembler makes entries of messages that come in the stream's order. An entry has the sequence of its
// last message. The recorder sends the parts of a record one after another, each only if the one before is
// stored.
type assembler struct {
	lost   func(Loss)
	sets   []*set                 // oldest first
	missed subjects.EngineMessage // the last record whose beginning was nowhere, without an index
}

// misses reports whether m is a part of a record whose earlier parts did not come.
func (a *assembler) misses(m stored) (id subjects.EngineMessage, ok bool) {
	id, ok = subjects.ParseEngineMessage(m.header.Get(jetstream.MsgIDHeader))
	whole := id
	whole.Index = 0
	return id, ok && id.Index > 1 && whole != a.missed && a.set(whole) == nil
}

// recall takes m, which came long before, if it is a part of the record of id, before id's own.
func (a *assembler) recall(id subjects.EngineMessage, m stored) {
	was, ok := subjects.ParseEngineMessage(m.header.Get(jetstream.MsgIDHeader))
	if !ok || was.Index >= id.Index {
		return
	}
	index := was.Index
	was.Index, id.Index = 0, 0
	if was == id {
		was.Index = index
		a.part(was, m)
	}
}

// forget drops what came of the record of id, without a word.
func (a *assembler) forget(id subjects.EngineMessage) {
	id.Index = 0
	if s := a.set(id); s != nil {
		a.drop(s)
	}
}

// lacks is how many parts before id's own have not come.
func (a *assembler) lacks(id subjects.EngineMessage) int {
	before := id.Index - 1
	id.Index = 0
	if s := a.set(id); s != nil {
		return before - len(s.parts)
	}
	return before
}

func (a *assembler) set(id subjects.EngineMessage) *set {
	for _, s := range a.sets {
		if s.id == id {
			return s
		}
	}
	return nil
}

// take is the entry that m completes, if it does.
func (a *assembler) take(m stored) (record.Entry, bool) {
	id, ok := subjects.ParseEngineMessage(m.header.Get(jetstream.MsgIDHeader))
	if !ok {
		a.lost(Loss{Reason: LossDamaged, From: m.sequence, To: m.sequence})
		return record.Entry{}, false
	}
	body := m.body
	from := m.sequence
	if id.Try > 0 {
		s := a.part(id, m)
		if s == nil || len(s.parts) < s.count {
			return record.Entry{}, false
		}
		a.drop(s)
		body, from = s.join(), s.first
	}
	a.expire(id, m.at)
	e, err := record.Decode(body)
	if err != nil || e.ID() != (record.ID{Epoch: id.Epoch, Sequence: id.Sequence}) || (e.Request != nil) != (id.Kind == subjects.EngineRequestKind) {
		id.Try, id.Index = 0, 0
		a.lost(Loss{Reason: LossDamaged, From: from, To: m.sequence, ID: id})
		return record.Entry{}, false
	}
	e.Stream, e.Stored = m.sequence, m.at
	return e, true
}

// part adds a part to its set; nil if it is of none.
func (a *assembler) part(id subjects.EngineMessage, m stored) *set {
	index, count, ok := subjects.ParseChunk(m.header.Get(subjects.HeaderChunk))
	if !ok || index != id.Index {
		id.Try, id.Index = 0, 0
		a.lost(Loss{Reason: LossDamaged, From: m.sequence, To: m.sequence, ID: id})
		return nil
	}
	id.Index = 0
	if index == 1 {
		return a.begin(id, count, m)
	}
	s := a.set(id)
	switch {
	case s == nil && id != a.missed:
		a.missed = id
		lost := id
		lost.Try = 0
		a.lost(Loss{Reason: LossParts, From: m.sequence, To: m.sequence, ID: lost})
	case s != nil && s.count == count && len(s.parts) == index-1:
		s.add(m)
		return s
	}
	return nil // a repeat of a part, or one behind a part that is missing
}

// begin starts a set. An earlier try of the same record is superseded by it.
func (a *assembler) begin(id subjects.EngineMessage, count int, m stored) *set {
	if a.set(id) != nil {
		return nil // a repeat
	}
	bytes := len(m.body)
	for _, s := range a.sets {
		bytes += s.bytes
		if s.id.Epoch == id.Epoch && s.id.Sequence == id.Sequence && s.id.Kind == id.Kind {
			a.drop(s)
			break
		}
	}
	for len(a.sets) > 0 && (len(a.sets) >= maxSets || bytes > maxSetBytes) {
		bytes -= a.sets[0].bytes
		a.give(a.sets[0])
	}
	s := &set{id: id, first: m.sequence, count: count}
	s.add(m)
	a.sets = append(a.sets, s)
	return s
}

func (s *set) add(m stored) {
	s.parts = append(s.parts, m.body)
	s.bytes += len(m.body)
	s.last, s.at = m.sequence, m.at
}

func (s *set) join() []byte {
	b := make([]byte, 0, s.bytes)
	for _, p := range s.parts {
		b = append(b, p...)
	}
	return b
}

// expire gives up sets that a record which came now shows to be incomplete for good: one that the same
// recorder sent later, or any that came long after.
func (a *assembler) expire(now subjects.EngineMessage, at time.Time) {
	for i := 0; i < len(a.sets); {
		s := a.sets[i]
		if s.id.Epoch == now.Epoch || at.Sub(s.at) > setPatience {
			a.give(s)
			continue
		}
		i++
	}
}

// give declares a set lost.
func (a *assembler) give(s *set) {
	id := s.id
	id.Try = 0
	a.lost(Loss{Reason: LossParts, From: s.first, To: s.last, ID: id})
	a.drop(s)
}

func (a *assembler) drop(s *set) {
	for i, o := range a.sets {
		if o == s {
			a.sets = append(a.sets[:i], a.sets[i+1:]...)
			return
		}
	}
}
