package enginelog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// segmentSuffix ends the names of the spool's files.
const segmentSuffix = ".spool"

// segment is one file of the spool.
type segment struct {
	number  uint64
	file    *os.File
	size    int64 // of its whole frames, heads included
	frames  int
	passed  int // frames that were handed out, or passed over, since the last rewind
	settled int // of them, those that are stored or lost
}

func segmentPath(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%012d%s", number, segmentSuffix))
}

func createSegment(dir string, number uint64) (*segment, error) {
	f, err := os.OpenFile(segmentPath(dir, number), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return &segment{number: number, file: f}, nil
}

// openSegment measures a file that an earlier process wrote, by its frames' lengths alone. Behind the
// first frame that is torn or can't be one there is nothing to be found: what ended it is the error, errTorn or
// errFrame.
func openSegment(dir string, number uint64, settled int64) (s *segment, fault, err error) {
	f, err := os.OpenFile(segmentPath(dir, number), os.O_RDWR, 0o600)
	if err != nil {
		return nil, nil, err
	}
	s = &segment{number: number, file: f}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	var head [frameHead]byte
	for s.size < info.Size() {
		if info.Size()-s.size < frameHead {
			return s, errTorn, nil
		}
		if _, err := f.ReadAt(head[:], s.size); err != nil {
			return s, errFrame, nil
		}
		n, _, err := frameLength(head[:])
		switch {
		case err != nil:
			return s, errFrame, nil
		case s.size+frameHead+int64(n) > info.Size():
			return s, errTorn, nil
		}
		s.size += frameHead + int64(n)
		s.frames++
		if s.size <= settled {
			s.settled++
		}
	}
	return s, nil, nil
}

// frame reads the frame at offset, and where the next one begins; zero if that can't be known.
func (s *segment) frame(offset int64) (it *item, next int64, err error) {
	var head [frameHead]byte
	if _, err := s.file.ReadAt(head[:], offset); err != nil {
		return nil, 0, err
	}
	n, sum, err := frameLength(head[:])
	if err != nil {
		return nil, 0, err
	}
	next = offset + frameHead + int64(n)
	if next > s.size {
		return nil, 0, errFrame
	}
	payload := make([]byte, n)
	if _, err := s.file.ReadAt(payload, offset+frameHead); err != nil {
		return nil, next, err
	}
	it, err = parseFrame(payload, sum)
	return it, next, err
}

// write appends a frame. What a failed write left behind is cut off, or overwritten by the next one.
func (s *segment) write(frame []byte) error {
	if _, err := s.file.WriteAt(frame, s.size); err != nil {
		return errors.Join(err, s.file.Truncate(s.size))
	}
	s.size += int64(len(frame))
	s.frames++
	return nil
}

func (s *segment) remove() error {
	return errors.Join(s.file.Close(), os.Remove(s.file.Name()))
}

// segmentNumbers are the files in dir, in order.
func segmentNumbers(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		if n, err := strconv.ParseUint(name, 10, 63); ok && err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// lockSpool takes the directory for this process; the kernel gives it back when the process dies.
func lockSpool(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s", ErrLocked, dir)
		}
		return nil, err
	}
	return f, nil
}

// place is how far the spool is settled, as a file: the segment, the offset in it, and the sequence in
// ENGINE of what was stored last.
type place struct {
	cursor
	sequence uint64
}

// placeSize is that of the file: three numbers and their checksum.
const placeSize = 3*8 + 4

func (p place) encode() []byte {
	b := make([]byte, 0, placeSize)
	b = binary.BigEndian.AppendUint64(b, p.segment)
	b = binary.BigEndian.AppendUint64(b, uint64(p.offset)) //nolint:gosec // never negative
	b = binary.BigEndian.AppendUint64(b, p.sequence)
	return binary.BigEndian.AppendUint32(b, checksum(b))
}

// readPlace reads the file from its beginning; what can't be read is no place, and so is one that was
// never written.
func readPlace(f io.ReaderAt) (p place, ok bool) {
	var b [placeSize]byte
	if _, err := f.ReadAt(b[:], 0); err != nil || checksum(b[:placeSize-4]) != binary.BigEndian.Uint32(b[placeSize-4:]) {
		return place{}, false
	}
	p.segment = binary.BigEndian.Uint64(b[:])
	p.offset = int64(binary.BigEndian.Uint64(b[8:])) //nolint:gosec // its checksum holds
	p.sequence = binary.BigEndian.Uint64(b[16:])
	return p, p.offset >= 0
}
