package enginelog

import (
	"context"
	"errors"
	"log/slog"
	"sync"
)

// journal holds, in order, what was recorded and is not stored: in the spool, and behind it in memory what
// the spool's disk would not take. Memory is bounded by max bytes; when full the new record is lost.
// One goroutine adds, one hands out and settles.
type journal struct {
	log  *slog.Logger
	m    *metrics
	max  int64
	wake chan struct{} // one token: something was added

	mu     sync.Mutex
	spool  *spool
	memory []*item
	handed int // of memory
	bytes  int64
	failed bool // the spool's disk refused the last record
}

// mark is where a record that was handed out ends.
type mark struct {
	end    cursor
	memory bool
}

func newJournal(s *spool, maxBytes int64, log *slog.Logger, m *metrics) *journal {
	return &journal{spool: s, max: maxBytes, log: log, m: m, wake: make(chan struct{}, 1)}
}

// add takes a record; what it costs others, or itself, is counted.
func (j *journal) add(ctx context.Context, it *item) {
	j.mu.Lock()
	defer j.mu.Unlock()
	defer j.measure()
	if j.settleMemory() {
		err := j.append(it)
		j.note(ctx, err)
		switch {
		case errors.Is(err, errTooLarge):
			j.m.lose(lostTooLarge, 1)
			return
		case err == nil:
			j.signal()
			return
		}
	}
	if size := it.size(); j.bytes+size <= j.max {
		j.memory = append(j.memory, it)
		j.bytes += size
		j.signal()
		return
	}
	j.m.lose(lostSpoolError, 1)
}

func (j *journal) append(it *item) error {
	lost, err := j.spool.append(it)
	j.m.loseAll(lost)
	return err
}

// settleMemory moves what waits in memory to the spool if nobody has any of it in hand; it reports whether
// memory is empty. The order is the spool first, so nothing in hand may be moved into it.
func (j *journal) settleMemory() bool {
	for j.handed == 0 && len(j.memory) > 0 {
		if err := j.append(j.memory[0]); err != nil {
			return false
		}
		j.pop()
	}
	return len(j.memory) == 0
}

func (j *journal) pop() {
	j.bytes -= j.memory[0].size()
	j.memory[0] = nil
	j.memory = j.memory[1:]
}

// note logs when the disk begins and ends to refuse.
func (j *journal) note(ctx context.Context, err error) {
	refused := err != nil && !errors.Is(err, errTooLarge)
	if refused == j.failed {
		return
	}
	j.failed = refused
	if refused {
		j.log.LogAttrs(ctx, slog.LevelError, "engine spool can't be written, records wait in memory", slog.Any("error", err))
		return
	}
	j.log.LogAttrs(ctx, slog.LevelInfo, "engine spool can be written again")
}

func (j *journal) signal() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// next hands out the oldest record that was not handed out since the last rewind.
func (j *journal) next() (*item, mark, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	it, end, lost := j.spool.next()
	j.m.loseAll(lost)
	if it != nil {
		return it, mark{end: end}, true
	}
	if j.handed < len(j.memory) {
		j.handed++
		return j.memory[j.handed-1], mark{memory: true}, true
	}
	return nil, mark{}, false
}

// settle is told of each record that was handed out, in that order: it is stored at a sequence, or lost
// for good at none.
func (j *journal) settle(m mark, sequence uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	defer j.measure()
	if m.memory {
		j.pop()
		j.handed--
		j.spool.stored(sequence)
		j.spool.save()
		return
	}
	j.spool.settle(m.end, sequence)
}

// rewind hands out again what is not settled.
func (j *journal) rewind() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.spool.rewind()
	j.handed = 0
}

// sequence is where ENGINE has what was settled last.
func (j *journal) sequence() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.spool.done.sequence
}

// begin sets the sequence before anything was stored.
func (j *journal) begin(sequence uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.spool.done.sequence = sequence
	j.spool.save()
}

// left is how many records are not settled.
func (j *journal) left() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.spool.records() + len(j.memory)
}

// waiting is the bytes of records that are not settled; zero only if there are none.
func (j *journal) waiting() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.spool.records()+len(j.memory) == 0 {
		return 0 // whatever bytes of damaged frames are left
	}
	return max(j.bytes+j.spool.unsettled(), 1)
}

func (j *journal) measure() {
	j.m.spoolBytes.Set(float64(j.spool.bytes))
	j.m.unstored.Set(float64(j.spool.records() + len(j.memory)))
}

func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.spool.close()
}
