package export

import (
	"cmp"
	"fmt"
	"path/filepath"
	"time"

	"millrace/internal/order"
)

// maxJumps bounds what is remembered of one reading.
const maxJumps = 1000

// rower makes a message's rows.
type rower interface {
	rows(m *Message, w *writer) (skip, error)
}

// sink takes one log's messages into one dataset.
type sink struct {
	cfg   *Config
	w     *writer
	maker rower
	tell  func(*Summary, func(*Summary)) // changes the report

	newest *span     // published; nil: none
	stream time.Time // of the log; zero: not opened yet
	first  uint64    // of what is not published yet
	last   uint64    // taken, or told to have nothing; below first: nothing
	jumps  []Range   // sequences of this reading that nothing was told of
	turned time.Time // of the last file
	sum    *Summary
}

func newSink(cfg *Config, dataset string, l Log, maker rower, columns []column, sum *Summary, tell func(*Summary, func(*Summary))) *sink {
	f := folder{path: filepath.Join(cfg.Out, dataset), dataset: dataset, log: l}
	return &sink{
		cfg: cfg, maker: maker, sum: sum, tell: tell, turned: time.Now(),
		w: newWriter(f, columns, map[string]string{metaDataset: dataset, metaLog: l.String(), "version": cfg.Version}),
	}
}

// load finds out where the files end.
func (s *sink) load() error {
	newest, err := s.w.folder.open()
	if err != nil {
		return fmt.Errorf("%s: %w", s.w.folder.path, err)
	}
	if s.newest = newest; newest != nil {
		s.first, s.last, s.stream = newest.last+1, newest.last, newest.stream
		s.tell(s.sum, func(sum *Summary) { sum.Position = s.last })
	}
	return nil
}

// next is the sequence to go on from; zero: from the beginning.
func (s *sink) next() uint64 {
	if s.newest == nil && s.last == 0 {
		return 0
	}
	return s.last + 1
}

// open begins a reading of the log. What the log gave up before it was read is missed.
func (s *sink) open(sp Span) error {
	if s.stream.IsZero() {
		s.stream = sp.Created.UTC()
	}
	if !s.stream.Equal(sp.Created) {
		return fmt.Errorf("%w: %s ends in one of %s, this one is of %s", ErrOtherStream, s.w.folder.path,
			s.stream.Format(time.RFC3339), sp.Created.UTC().Format(time.RFC3339))
	}
	s.w.footer[metaNode] = sp.Node
	s.w.limits = order.Limits{MaxTxs: sp.MaxTxs}
	s.w.builder = builderName(cmp.Or(s.cfg.Builder, sp.Node))
	next := s.next()
	if next == 0 && s.cfg.Since.IsZero() {
		s.first = max(sp.First, 1)
		s.last = s.first - 1
	}
	if next != 0 && sp.Last+1 < next {
		return fmt.Errorf("%w: %s has sequence %d, the log ends at %d", ErrOtherStream, s.w.folder.path, s.last, sp.Last)
	}
	if next == 0 || sp.First <= next || sp.Last == 0 {
		return nil
	}
	if err := s.finish(); err != nil {
		return err
	}
	s.missed(Range{First: next, Last: sp.First - 1})
	s.first, s.last = sp.First, sp.First-1
	return nil
}

func (s *sink) missed(r Range) {
	s.tell(s.sum, func(sum *Summary) { sum.Missed = append(sum.Missed, r) })
}

// take makes the message's rows, if it is not among those that have theirs.
func (s *sink) take(m *Message) error {
	if m.Sequence <= s.last {
		return nil
	}
	if s.first == 0 {
		s.first = m.Sequence
	} else if m.Sequence > s.last+1 && len(s.jumps) < maxJumps {
		s.jumps = append(s.jumps, Range{First: s.last + 1, Last: m.Sequence - 1})
	}
	before := s.w.rows
	if s.w.file == nil {
		before = 0
	}
	why := skipVoid
	if m.Order != nil || m.Batch != nil {
		var err error
		if why, err = s.maker.rows(m, s.w); err != nil {
			return fmt.Errorf("%s: sequence %d: %w", s.w.folder.dataset, m.Sequence, err)
		}
	}
	s.last = m.Sequence
	s.tell(s.sum, func(sum *Summary) {
		if sum.Position = s.last; why != skipNone {
			sum.Skipped[string(why)]++
			return
		}
		sum.Rows += s.w.rows - before
	})
	if s.w.file != nil && (s.w.rows >= s.cfg.MaxRows || s.w.size() >= s.cfg.MaxBytes) {
		return s.finish()
	}
	return nil
}

// passed ends a reading: everything up to last was told, and the log begins at first now. What was
// jumped over and is gone may have been given up before it was read.
func (s *sink) passed(first, last uint64) error {
	for _, j := range s.jumps {
		if j.First < first {
			s.missed(Range{First: j.First, Last: min(j.Last, first-1)})
		}
	}
	s.jumps = s.jumps[:0]
	if last > s.last {
		s.first, s.last = max(s.first, 1), last
		s.tell(s.sum, func(sum *Summary) { sum.Position = last })
	}
	return s.age()
}

// age publishes what has waited for long enough.
func (s *sink) age() error {
	since := s.turned
	if s.w.file != nil {
		since = s.w.began
	}
	if time.Since(since) < s.cfg.MaxAge {
		return nil
	}
	return s.finish()
}

// finish publishes what was taken, rows or none. A file without rows is replaced by its successor,
// which then begins where it did.
func (s *sink) finish() error {
	s.turned = time.Now()
	if s.first == 0 || s.last < s.first {
		return nil
	}
	sp := span{first: s.first, last: s.last, stream: s.stream}
	if s.w.file != nil {
		sp.rows = s.w.rows
	}
	replaced := s.newest
	if replaced != nil && (replaced.rows > 0 || replaced.last+1 != sp.first) {
		replaced = nil
	}
	if replaced != nil {
		sp.first = replaced.first
	}
	sp.name = s.w.folder.name(sp.first, sp.last)
	size, err := s.w.finish(sp)
	if err != nil {
		return err
	}
	s.newest, s.first = &sp, s.last+1
	s.tell(s.sum, func(sum *Summary) {
		if sp.rows > 0 {
			sum.Files++
			sum.Bytes += size
		}
	})
	if replaced != nil {
		return s.w.folder.remove(replaced.name)
	}
	return nil
}
