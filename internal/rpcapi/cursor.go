package rpcapi

import (
	"bytes"
	"slices"
)

// cursor walks over JSON that is known to be valid and to have no escapes, so that a string ends at the next quote.
// The general library can do the same, at several times the cost, which a cache's hit would feel most.
type cursor struct {
	rest []byte
	// input and data are what a call was found to have under these names.
	input, data []byte
	failed      bool
}

// member is where a member stands in what was written, and how long its name is.
type member struct{ at, end, name int }

// appendOrdered appends v without white space and with the members of its objects in order. False: a member is there
// twice.
func appendOrdered(dst, v []byte) ([]byte, bool) {
	c := cursor{rest: v}
	dst = c.value(dst)
	return dst, !c.failed
}

// appendCall is appendOrdered of a transaction to run, whose input goes behind it, whatever it is called. A
// transaction with two inputs that differ is not understood.
func appendCall(dst, v []byte) ([]byte, bool) {
	c := cursor{rest: v}
	dst = c.object(dst, objectCall)
	if c.input == nil {
		c.input = c.data
	}
	ok := !c.failed && (c.data == nil || bytes.Equal(c.input, c.data))
	return append(dst, c.input...), ok
}

func (c *cursor) value(dst []byte) []byte {
	switch c.peek() {
	case '{':
		return c.object(dst, objectPlain)
	case '[':
		return c.array(dst)
	default:
		return append(dst, c.scalar()...)
	}
}

// peek skips white space; 0 is the end.
func (c *cursor) peek() byte {
	for i, b := range c.rest {
		if b > ' ' {
			c.rest = c.rest[i:]
			return b
		}
	}
	c.rest, c.failed = nil, true
	return 0
}

// next takes one byte of punctuation, if it stands there.
func (c *cursor) next(b byte) bool {
	if c.peek() != b {
		return false
	}
	c.rest = c.rest[1:]
	return true
}

func (c *cursor) scalar() []byte {
	end := len(c.rest)
	if c.peek() == '"' {
		if i := bytes.IndexByte(c.rest[1:], '"'); i >= 0 {
			end = i + 2
		}
	} else if i := bytes.IndexAny(c.rest, ",:]}\" \t\r\n"); i >= 0 {
		end = i
	}
	end = min(end, len(c.rest))
	v := c.rest[:end]
	c.rest = c.rest[end:]
	return v
}

func (c *cursor) array(dst []byte) []byte {
	c.rest = c.rest[1:]
	dst = append(dst, '[')
	for n := 0; !c.failed && !c.next(']'); n++ {
		if n > 0 {
			c.failed = c.failed || !c.next(',')
			dst = append(dst, ',')
		}
		dst = c.value(dst)
	}
	return append(dst, ']')
}

func (c *cursor) object(dst []byte, kind object) []byte {
	var few [16]member
	members, sorted := few[:0], true
	c.rest = c.rest[1:]
	dst = append(dst, '{')
	for n := 0; !c.failed && !c.next('}'); n++ {
		if n > 0 && !c.next(',') {
			c.failed = true
			break
		}
		m := member{at: len(dst)}
		name := c.scalar()
		c.failed = c.failed || !c.next(':')
		if kind == objectCall && c.peek() == '"' && c.take(name) {
			continue
		}
		dst = append(dst, name...)
		m.name = len(dst)
		dst = c.value(append(dst, ':'))
		dst = append(dst, ',')
		m.end = len(dst)
		if len(members) > 0 {
			before := members[len(members)-1]
			sorted = sorted && bytes.Compare(dst[before.at:before.name], dst[m.at:m.name]) < 0
		}
		members = append(members, m)
	}
	if !sorted {
		dst = c.sort(dst, members)
	}
	if len(members) > 0 {
		dst = dst[:len(dst)-1] // the last comma
	}
	return append(dst, '}')
}

// take keeps the next value if it is a call's input.
func (c *cursor) take(name []byte) bool {
	var to *[]byte
	switch string(name) {
	case `"input"`:
		to = &c.input
	case `"data"`:
		to = &c.data
	default:
		return false
	}
	c.failed = !setOnce(to, c.scalar()) || c.failed
	return true
}

// sort puts the members, which are the end of dst, in order.
func (c *cursor) sort(dst []byte, members []member) []byte {
	start, end := members[0].at, len(dst)
	slices.SortFunc(members, func(a, b member) int {
		return bytes.Compare(dst[a.at:a.name], dst[b.at:b.name])
	})
	for i, m := range members {
		if i > 0 && bytes.Equal(dst[members[i-1].at:members[i-1].name], dst[m.at:m.name]) {
			c.failed = true
		}
		dst = append(dst, dst[m.at:m.end]...)
	}
	copy(dst[start:], dst[end:])
	return dst[:end]
}
