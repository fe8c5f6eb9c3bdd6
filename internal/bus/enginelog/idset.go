package enginelog

import (
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"millrace/subjects"
)

// maxRuns bounds an idSet, at 16 bytes each. Sequences are given in one row and requests are stored in it, so
// a day of calls is a few runs; beyond the bound nothing is added, and such a record is sent once more.
const maxRuns = 1 << 16

// idSet is which records a stretch of the stream has, as runs of sequences.
type idSet struct {
	runs map[series][]stretch // sorted, neither touching nor overlapping
	n    int
}

// series is records that are numbered in one row.
type series struct {
	epoch uint64
	kind  subjects.EngineKind
}

// stretch is sequences, both ends included.
type stretch struct{ from, to uint64 }

func newIDSet() *idSet { return &idSet{runs: make(map[series][]stretch)} }

// search is where in the runs the first one is that ends at or behind n.
func search(runs []stretch, n uint64) int {
	i, _ := slices.BinarySearchFunc(runs, n, func(r stretch, n uint64) int {
		if r.to < n {
			return -1
		}
		return 1
	})
	return i
}

func (s *idSet) has(id subjects.EngineMessage) bool {
	runs := s.runs[series{id.Epoch, id.Kind}]
	i := search(runs, id.Sequence)
	return i < len(runs) && runs[i].from <= id.Sequence
}

func (s *idSet) add(id subjects.EngineMessage) {
	if s.has(id) {
		return
	}
	key, n := series{id.Epoch, id.Kind}, id.Sequence
	runs := s.runs[key]
	i := search(runs, n)
	before := i > 0 && runs[i-1].to+1 == n
	behind := i < len(runs) && runs[i].from == n+1
	switch {
	case before && behind:
		runs[i-1].to = runs[i].to
		runs = slices.Delete(runs, i, i+1)
		s.n--
	case before:
		runs[i-1].to = n
	case behind:
		runs[i].from = n
	case s.n == maxRuns:
		return
	default:
		runs = slices.Insert(runs, i, stretch{n, n})
		s.n++
	}
	s.runs[key] = runs
}

// note adds the record that a message of the stream completes. Each part is stored only behind the one
// before it, so the last one says that all were.
func (s *idSet) note(h nats.Header) {
	m, ok := subjects.ParseEngineMessage(h.Get(jetstream.MsgIDHeader))
	if !ok {
		return
	}
	if m.Try > 0 {
		if index, count, ok := subjects.ParseChunk(h.Get(subjects.HeaderChunk)); !ok || index != count {
			return
		}
	}
	s.add(m)
}
