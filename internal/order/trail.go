package order

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/ethereum/go-ethereum/common"
)

// MarkSize is the length of a transaction's mark in a Trail, bytes.
const MarkSize = 16

// maxMarks bounds the transactions that a trail names: 8 kB, well inside what headers may add.
const maxMarks = 512

const trailVersion = 1

// ErrTrail is returned for a trail that can't be read.
var ErrTrail = errors.New("bad order trail")

// Trail is what validation knows of an order that neither its headers nor the ledger say: where it
// came from and which transactions are in it. It travels beside the order to the index that answers
// who asks for a transaction, so that nobody has to decode and hash the body for that again. Times
// are on the bus clock, to the microsecond; zero: not known.
type Trail struct {
	// InSequence and InStoredAt say where and when IN stored the order.
	InSequence uint64
	InStoredAt time.Time
	// DecidedAt is when validation ended.
	DecidedAt time.Time
	// Attempts counts the deliveries to a worker, the last one included.
	Attempts int
	// Marks are the beginnings of the hashes of a bundle's transactions, MarkSize bytes each, back to
	// back. Empty for an order that is a transaction: its own hash says it.
	Marks []byte
}

// Mark adds a transaction; beyond 512 they are not named.
func (t *Trail) Mark(h common.Hash) {
	if len(t.Marks) < maxMarks*MarkSize {
		t.Marks = append(t.Marks, h[:MarkSize]...)
	}
}

// AppendTo appends the encoded trail of the given acceptance to b: a version, four variable-length
// numbers (times count from the received time), then the marks.
func (t *Trail) AppendTo(b []byte, a AcceptID) []byte {
	b = append(b, trailVersion)
	b = binary.AppendUvarint(b, t.InSequence)
	b = binary.AppendUvarint(b, sinceReceived(a, t.InStoredAt))
	b = binary.AppendUvarint(b, sinceReceived(a, t.DecidedAt))
	b = binary.AppendUvarint(b, uint64(max(t.Attempts, 0)))
	return append(b, t.Marks...)
}

// DecodeTrail reads the trail of the given acceptance; the marks are not copied.
func DecodeTrail(b []byte, a AcceptID) (Trail, error) {
	var t Trail
	if len(b) == 0 || b[0] != trailVersion {
		return t, ErrTrail
	}
	b = b[1:]
	var n [4]uint64
	for i := range n {
		v, size := binary.Uvarint(b)
		if size <= 0 {
			return t, ErrTrail
		}
		n[i], b = v, b[size:]
	}
	if len(b)%MarkSize != 0 || len(b) > maxMarks*MarkSize || n[3] > 1<<30 {
		return t, ErrTrail
	}
	t.InSequence, t.Attempts, t.Marks = n[0], int(n[3]), b //nolint:gosec // bounded above
	var err error
	if t.InStoredAt, err = afterReceived(a, n[1]); err == nil {
		t.DecidedAt, err = afterReceived(a, n[2])
	}
	return t, err
}

// A time in a trail is the distance from the received time in microseconds, plus one; what the clock
// shows as earlier counts as at once.
func sinceReceived(a AcceptID, at time.Time) uint64 {
	if at.IsZero() {
		return 0
	}
	return uint64(max(at.UnixMicro()-a.Received().UnixMicro(), 0)) + 1
}

// maxAfter bounds a time in a trail: a hundred years.
const maxAfter = 100 * 365 * 24 * 3600 * 1_000_000

func afterReceived(a AcceptID, n uint64) (time.Time, error) {
	if n == 0 {
		return time.Time{}, nil
	}
	if n > maxAfter {
		return time.Time{}, ErrTrail
	}
	return a.Received().Add(time.Duration(n-1) * time.Microsecond), nil
}
