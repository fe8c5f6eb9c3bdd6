package index

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strings"
	"time"

	"millrace/internal/order"
)

// A key is the minute of the acceptance, the table, sixteen bytes, and what follows:
//
//	minute 'm' mark   accept     a name of an order; no value
//	minute 'o' accept            what validation knew of it
//	minute 'o' accept target     how it ended at a target
//	minute 'p' zeros             how far the logs were read, at a minute of the clock
const (
	tableMarks  = 'm'
	tableOrders = 'o'
	tablePlaces = 'p'

	minuteSize = 4
	bodyAt     = minuteSize + 1
	prefixSize = bodyAt + order.MarkSize
)

// mark is the beginning of a name of an order.
type mark [order.MarkSize]byte

// minute counts from 1970.
type minute uint32

func minuteOf(t time.Time) minute {
	return minute(min(max(t.Unix()/60, 0), math.MaxUint32-1))
}

// appendStart appends the least key of a minute.
func (m minute) appendStart(b []byte) []byte { return binary.BigEndian.AppendUint32(b, uint32(m)) }

func appendPrefix(b []byte, m minute, table byte, body [16]byte) []byte {
	return append(append(m.appendStart(b), table), body[:]...)
}

func appendMark(b []byte, m mark, a order.AcceptID) []byte {
	return append(appendPrefix(b, minuteOf(a.Received()), tableMarks, m), a[:]...)
}

func appendOrder(b []byte, a order.AcceptID, target string) []byte {
	return append(appendPrefix(b, minuteOf(a.Received()), tableOrders, a), target...)
}

func appendPlaces(b []byte, m minute) []byte { return appendPrefix(b, m, tablePlaces, [16]byte{}) }

// minuteIn reads a key's minute; ok is false for what is no key of ours.
func minuteIn(key []byte) (m minute, ok bool) {
	if len(key) < prefixSize {
		return 0, false
	}
	return minute(binary.BigEndian.Uint32(key)), true
}

// split is the part of a key that the filters know: everything before what an iteration is for.
func split(key []byte) int { return min(len(key), prefixSize) }

// Query is a name of an order.
type Query struct {
	name [32]byte
	full bool // a hash; else sixteen bytes: an acceptance or a UUID
}

// ParseQuery reads a hash or an order's id (64 hex digits, with or without 0x), an accept id (32) or a
// UUID (32 with hyphens). The error is ErrQuery.
func ParseQuery(s string) (Query, error) {
	s = strings.TrimPrefix(strings.ToLower(strings.TrimSpace(s)), "0x")
	if len(s) == 36 {
		if s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
			return Query{}, ErrQuery
		}
		s = s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	}
	var q Query
	if len(s) != 64 && len(s) != 32 {
		return q, ErrQuery
	}
	if _, err := hex.Decode(q.name[:], []byte(s)); err != nil {
		return Query{}, ErrQuery
	}
	q.full = len(s) == 64
	return q, nil
}

// HashQuery is the query for a hash or an order's id.
func HashQuery(h [32]byte) Query { return Query{name: h, full: true} }

// String is the name in lower-case hex.
func (q Query) String() string {
	if q.full {
		return hex.EncodeToString(q.name[:])
	}
	return hex.EncodeToString(q.name[:order.MarkSize])
}

func (q Query) mark() mark { return mark(q.name[:order.MarkSize]) }

// accept is the acceptance that q may name.
func (q Query) accept() (order.AcceptID, bool) {
	return order.AcceptID(q.name[:order.MarkSize]), !q.full
}
