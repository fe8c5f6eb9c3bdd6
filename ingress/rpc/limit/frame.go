package limit

import (
	"encoding/binary"
	"errors"
	"math"
)

const (
	frameVersion = 1
	headSize     = 12
	entrySize    = 20
	// maxTold bounds the subjects of one message: those nearest to their limits are told first.
	maxTold = 512
)

// errFrame is a message that can't be read.
var errFrame = errors.New("unreadable gossip")

// note is what a process says about itself.
type note uint8

const (
	noteHere note = iota + 1
	noteGone
)

// entry is a report of one subject as it travels.
type entry struct {
	subject             uint64
	used, claim, wanted uint32
}

// frame is one message: version, note, count, the process's number, entries.
type frame struct {
	from    uint64
	note    note
	entries []entry
}

func (f *frame) append(b []byte) []byte {
	b = append(b, frameVersion, byte(f.note))
	b = binary.BigEndian.AppendUint16(b, uint16(len(f.entries))) //nolint:gosec // at most maxTold
	b = binary.BigEndian.AppendUint64(b, f.from)
	for _, e := range f.entries {
		b = binary.BigEndian.AppendUint64(b, e.subject)
		b = binary.BigEndian.AppendUint32(b, e.used)
		b = binary.BigEndian.AppendUint32(b, e.claim)
		b = binary.BigEndian.AppendUint32(b, e.wanted)
	}
	return b
}

// decodeFrame reads a message. A later version is unreadable: its process counts as absent.
func decodeFrame(b []byte) (f frame, err error) {
	if len(b) < headSize || b[0] != frameVersion {
		return f, errFrame
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	f.note, f.from = note(b[1]), binary.BigEndian.Uint64(b[4:])
	if f.note < noteHere || f.note > noteGone || n > maxTold || len(b) != headSize+n*entrySize {
		return frame{}, errFrame
	}
	f.entries = make([]entry, n)
	for i := range f.entries {
		e := b[headSize+i*entrySize:]
		f.entries[i] = entry{
			binary.BigEndian.Uint64(e), binary.BigEndian.Uint32(e[8:]), binary.BigEndian.Uint32(e[12:]), binary.BigEndian.Uint32(e[16:]),
		}
	}
	return f, nil
}

func whole(x float64) uint32 { return uint32(min(max(x, 0), math.MaxUint32)) }
