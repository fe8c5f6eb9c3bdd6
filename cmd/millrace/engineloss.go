package main

import (
	"fmt"

	"millrace/internal/bus/enginelog"
	calls "millrace/internal/engineapi/record"
	"millrace/subjects"
)

// lostNeverStored is the reason of calls whose numbers the record passes over: the recorder lost them, and
// counted them in millrace_engine_record_lost_total.
const lostNeverStored = "not_stored"

// lostOf is a reader's loss as captures and pages tell it.
func lostOf(l enginelog.Loss) calls.Lost {
	if l.ID.Epoch == 0 {
		return calls.Lost{Reason: l.Reason.String(), From: l.From, To: l.To}
	}
	out := calls.Lost{Reason: l.Reason.String(), What: "request", Epoch: l.ID.Epoch, From: l.ID.Sequence, To: l.ID.Sequence}
	if l.ID.Kind == subjects.EngineOutcomeKind {
		out.What = "outcome"
	}
	return out
}

// maxRows bounds the epochs that a callRows remembers: there is one per start of a door.
const maxRows = 1024

// callRows finds the calls that are in no record. A door numbers every call and the record keeps their order,
// so what an epoch passes over was lost before it was stored.
type callRows struct {
	whole  bool              // the record is read from where it began
	last   map[uint64]uint64 // by epoch
	newest uint64            // epoch
}

// next takes the next call's name and is what lacks before it, if anything.
func (r *callRows) next(id calls.ID) (l calls.Lost, lost bool) {
	last, known := r.last[id.Epoch]
	if known && id.Sequence <= last {
		return l, false // stored twice, or told already
	}
	// What came before the first call that is read of an epoch is not known, unless the epoch began since.
	if known || r.whole || len(r.last) > 0 && id.Epoch > r.newest {
		l = calls.Lost{Reason: lostNeverStored, What: "request", Epoch: id.Epoch, From: last + 1, To: id.Sequence - 1}
	}
	r.saw(id)
	return l, l.From > 0 && l.From <= l.To
}

// saw notes that a call is accounted for.
func (r *callRows) saw(id calls.ID) {
	if r.last == nil {
		r.last = map[uint64]uint64{}
	}
	r.last[id.Epoch] = max(r.last[id.Epoch], id.Sequence)
	r.newest = max(r.newest, id.Epoch)
	if len(r.last) <= maxRows {
		return
	}
	oldest := id.Epoch
	for epoch := range r.last {
		oldest = min(oldest, epoch)
	}
	delete(r.last, oldest)
}

// pass notes a loss that was told. Behind a stretch of the stream nothing is known of any epoch.
func (r *callRows) pass(l calls.Lost) {
	if l.Epoch == 0 {
		r.whole, r.last = false, nil
		return
	}
	r.saw(calls.ID{Epoch: l.Epoch, Sequence: l.To})
}

// losses counts what is missing, for a summary.
type losses struct{ calls, stretches uint64 }

func (s *losses) add(l calls.Lost) {
	if l.Epoch == 0 {
		s.stretches++
		return
	}
	s.calls += l.To - l.From + 1
}

func (s *losses) none() bool { return *s == losses{} }

// String is the summary.
func (s *losses) String() string {
	if s.none() {
		return "nothing lost"
	}
	return fmt.Sprintf("%d calls and %d stretches of the record lost", s.calls, s.stretches)
}
