package enginelog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const (
	// A segment is a sixteenth of what the spool may hold, within these bounds.
	leastSegment = 64 << 10
	mostSegment  = 64 << 20
	// keepScratch is the most memory that is kept for the next frame.
	keepScratch = 1 << 20
)

// cursor is a place between two frames.
type cursor struct {
	segment uint64
	offset  int64
}

func (c cursor) before(o cursor) bool {
	return c.segment < o.segment || c.segment == o.segment && c.offset < o.offset
}

// losses are records that the spool had to give up, by reason.
type losses struct {
	full    int // made room for later ones
	torn    int // the process died while it wrote them
	damaged int // can't be read back
}

func (l *losses) add(o losses) {
	l.full += o.full
	l.torn += o.torn
	l.damaged += o.damaged
}

// spool is a queue of frames in files: appended at one end, handed out from a cursor, forgotten when
// they are settled. It holds at most max bytes; the oldest segment makes room. It is used under its
// user's lock.
type spool struct {
	dir        string
	max, limit int64 // bytes of all segments, of one
	lock       *os.File
	place      *os.File
	segments   []*segment // oldest first; the last is written to
	bytes      int64
	read       cursor // what is handed out next
	far        cursor // how far anything was ever handed out: damage before it is known
	done       place  // everything before it is settled
	scratch    []byte
}

// openSpool opens the spool in dir, making it, and takes it for this process. What earlier processes left
// behind what is settled is handed out first.
func openSpool(dir string, maxBytes int64) (s *spool, lost losses, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, lost, fmt.Errorf("create spool: %w", err)
	}
	s = &spool{dir: dir, max: maxBytes, limit: min(max(maxBytes/16, leastSegment), mostSegment)}
	defer func() {
		if err != nil {
			s.close()
			s, err = nil, fmt.Errorf("open spool %s: %w", dir, err)
		}
	}()
	if s.lock, err = lockSpool(dir); err != nil {
		return s, lost, err
	}
	if s.place, err = os.OpenFile(filepath.Join(dir, "place"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return s, lost, err
	}
	lost, err = s.recover()
	return s, lost, err
}

// recover finds what is left and begins a segment of its own behind it.
func (s *spool) recover() (lost losses, err error) {
	numbers, err := segmentNumbers(s.dir)
	if err != nil {
		return lost, err
	}
	at, _ := readPlace(s.place)
	last := at.segment
	found := false // the place is between two frames of a segment that is there
	for _, n := range numbers {
		if n < at.segment {
			if err := os.Remove(segmentPath(s.dir, n)); err != nil {
				return lost, err
			}
			continue
		}
		settled := int64(0)
		if n == at.segment {
			settled = at.offset
		}
		seg, fault, err := openSegment(s.dir, n, settled)
		if err != nil {
			return lost, err
		}
		switch {
		case errors.Is(fault, errTorn):
			lost.torn++
		case fault != nil:
			lost.damaged++
		}
		found = found || n == at.segment && at.offset <= seg.size
		last = n
		s.segments = append(s.segments, seg)
		s.bytes += seg.size
	}
	seg, err := createSegment(s.dir, last+1)
	if err != nil {
		return lost, err
	}
	s.segments = append(s.segments, seg)
	s.done = at
	if !found {
		s.done.cursor = cursor{segment: s.segments[0].number}
	}
	s.rewind()
	s.far = s.read
	s.tidy()
	return lost, nil
}

// append adds a record, making room for it. The error is errTooLarge for one that never fits, else the
// disk's: then the record is not in the spool.
func (s *spool) append(it *item) (lost losses, err error) {
	frame := appendFrame(s.scratch[:0], it)
	if cap(frame) <= keepScratch {
		s.scratch = frame
	}
	need := int64(len(frame))
	if need > s.max || need > maxFrame {
		return lost, errTooLarge
	}
	if cur := s.last(); cur.size > 0 && cur.size+need > s.limit {
		if err := s.roll(); err != nil {
			return lost, err
		}
	}
	for s.bytes+need > s.max && len(s.segments) > 1 {
		lost.full += s.dropOldest()
	}
	if err := s.last().write(frame); err != nil {
		return lost, err
	}
	s.bytes += need
	return lost, nil
}

func (s *spool) last() *segment { return s.segments[len(s.segments)-1] }

func (s *spool) roll() error {
	seg, err := createSegment(s.dir, s.last().number+1)
	if err != nil {
		return err
	}
	s.segments = append(s.segments, seg)
	return nil
}

// dropOldest gives up the oldest segment and returns how many records went with it. A record of it that
// is just being published is counted although it may arrive.
func (s *spool) dropOldest() int {
	seg := s.segments[0]
	s.forget(seg)
	first := cursor{segment: s.segments[0].number}
	for _, c := range []*cursor{&s.read, &s.far, &s.done.cursor} {
		if c.before(first) {
			*c = first
		}
	}
	s.save()
	return seg.frames - seg.settled
}

// forget takes the oldest segment away.
func (s *spool) forget(seg *segment) {
	s.segments = s.segments[1:]
	s.bytes -= seg.size
	_ = seg.remove() // one that stays is settled, and removed at the next start
}

// next hands out the next record and where it ends; nil when there is none. What can't be read is
// passed over.
func (s *spool) next() (it *item, end cursor, lost losses) {
	for {
		seg := s.find(s.read.segment)
		if s.read.offset >= seg.size {
			if seg == s.last() {
				return nil, s.read, lost
			}
			s.advance(cursor{segment: s.following(seg).number})
			continue
		}
		it, offset, err := seg.frame(s.read.offset)
		passed := 1
		if offset == 0 { // there is no telling where the next one begins
			offset, passed = seg.size, max(seg.frames-seg.passed, 0)
		}
		seg.passed += passed
		known := s.read.before(s.far)
		s.advance(cursor{seg.number, offset})
		if err == nil {
			return it, s.read, lost
		}
		if !known {
			lost.damaged += passed
			seg.settled += passed
		}
	}
}

func (s *spool) advance(c cursor) {
	s.read = c
	if s.far.before(c) {
		s.far = c
	}
}

func (s *spool) find(number uint64) *segment {
	for _, seg := range s.segments {
		if seg.number >= number {
			return seg
		}
	}
	return s.last()
}

func (s *spool) following(seg *segment) *segment {
	for _, o := range s.segments {
		if o.number > seg.number {
			return o
		}
	}
	return seg
}

// settle notes that the record that ends at end, and all before it, are done with; sequence is ENGINE's of
// the last one stored, zero for one that was lost.
func (s *spool) settle(end cursor, sequence uint64) {
	s.stored(sequence)
	if !s.done.before(end) {
		s.save()
		return // its segment was dropped meanwhile
	}
	s.done.cursor = end
	if seg := s.find(end.segment); seg.number == end.segment {
		seg.settled++
	}
	s.tidy()
}

// stored notes where ENGINE has the last record; a stream that was made anew counts from one.
func (s *spool) stored(sequence uint64) {
	if sequence > 0 {
		s.done.sequence = sequence
	}
}

// tidy removes what is settled and notes where that ends.
func (s *spool) tidy() {
	if cur := s.last(); s.done.segment == cur.number && s.done.offset >= cur.size && cur.size > s.limit/4 && s.roll() == nil {
		s.done.cursor = cursor{segment: s.last().number}
		s.advance(s.done.cursor)
	}
	for len(s.segments) > 1 && s.segments[0].number < s.done.segment {
		s.forget(s.segments[0])
	}
	s.save()
}

// save writes the place; where that fails records are sent again after a death, and found to be there.
func (s *spool) save() { _, _ = s.place.WriteAt(s.done.encode(), 0) }

// rewind hands out again what is not settled.
func (s *spool) rewind() {
	s.read = s.done.cursor
	for _, seg := range s.segments {
		seg.passed = 0
		if seg.number == s.read.segment {
			seg.passed = seg.settled
		}
	}
}

// records is how many are not settled.
func (s *spool) records() (n int) {
	for _, seg := range s.segments {
		n += seg.frames - seg.settled
	}
	return n
}

// unsettled is the bytes of the frames that are not settled.
func (s *spool) unsettled() int64 {
	n := s.bytes
	for _, seg := range s.segments {
		switch {
		case seg.number < s.done.segment:
			n -= seg.size
		case seg.number == s.done.segment:
			n -= s.done.offset
		}
	}
	return n
}

func (s *spool) close() {
	for _, seg := range s.segments {
		_ = seg.file.Close()
	}
	for _, f := range []*os.File{s.place, s.lock} {
		if f != nil {
			_ = f.Close()
		}
	}
}
