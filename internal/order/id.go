package order

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// ID is an order's internal identity, 32 bytes: SHA-256 over content, signer and effective nonce,
// or a raw transaction's hash. Two submissions with one ID are the same order sent twice.
type ID [32]byte

// String is the ID in lower-case hex without prefix, 64 characters: valid as a NATS token.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// AcceptID names one acceptance, the unit of accounting: 8 bytes of received time in microseconds,
// big endian, then 8 random bytes. The same order accepted twice has two.
type AcceptID [16]byte

// NewAcceptID returns the id of an acceptance at the given bus time.
func NewAcceptID(received time.Time) AcceptID {
	var a AcceptID
	binary.BigEndian.PutUint64(a[:8], uint64(received.UnixMicro()))
	_, _ = rand.Read(a[8:]) // never fails since Go 1.24
	return a
}

// Received is the time that the id carries, to the microsecond.
func (a AcceptID) Received() time.Time {
	return time.UnixMicro(int64(binary.BigEndian.Uint64(a[:8]))) //nolint:gosec // written by NewAcceptID
}

// String is the id in lower-case hex, 32 characters.
func (a AcceptID) String() string { return hex.EncodeToString(a[:]) }

// UUID is a replacement UUID. The zero value means that an order can't be replaced.
type UUID [16]byte

// IsZero reports whether there is no UUID.
func (u UUID) IsZero() bool { return u == UUID{} }

// String is the usual lower-case hyphenated form, 36 characters.
func (u UUID) String() string {
	b := u.text()
	return string(b[:])
}

func (u UUID) text() (b [36]byte) {
	hex.Encode(b[0:8], u[0:4])
	hex.Encode(b[9:13], u[4:6])
	hex.Encode(b[14:18], u[6:8])
	hex.Encode(b[19:23], u[8:10])
	hex.Encode(b[24:36], u[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return b
}
