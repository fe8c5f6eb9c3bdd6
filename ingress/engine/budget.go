package engine

import (
	"bytes"
	"io"
	"sync/atomic"
)

// readStep is by how much a body of unknown length grows at first, bytes.
const readStep = 64 << 10

// trustedLength is up to which announced length memory is reserved and taken at once, bytes: above
// any block of today. What announces more has to send it.
const trustedLength = 32 << 20

// budget bounds the bytes of all request bodies in flight. Nobody waits for it: when it is exhausted
// the request is refused.
type budget struct {
	total int64
	inUse atomic.Int64
}

func (b *budget) used() int64 { return b.inUse.Load() }

// take reserves n bytes, or nothing and false.
func (b *budget) take(n int64) bool {
	if b.inUse.Add(n) <= b.total {
		return true
	}
	b.inUse.Add(-n)
	return false
}

func (b *budget) release(n int64) { b.inUse.Add(-n) }

// read reads r to its end, at most limit bytes, and returns how much of the budget the body holds
// until it is released. announced is the length if it is known, else negative. The body is fresh
// memory: the recorder keeps it.
func (b *budget) read(r io.Reader, announced, limit int64) (body []byte, held int64, err error) {
	size := int64(readStep)
	if announced >= 0 {
		size = min(announced, trustedLength) + 1 // one more, so that the end is seen without growing
	}
	if !b.take(size) {
		return nil, 0, errExhausted
	}
	held = size
	body = make([]byte, 0, size)
	for {
		if len(body) == cap(body) {
			more := min(int64(cap(body)), limit+1-int64(cap(body)))
			if !b.take(more) {
				return nil, held, errExhausted
			}
			held += more
			body = append(make([]byte, 0, int64(cap(body))+more), body...)
		}
		n, err := r.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if int64(len(body)) > limit {
			return nil, held, errBodyTooLarge
		}
		if err == io.EOF {
			if announced < 0 {
				body = bytes.Clone(body) // the recorder would keep the room around it
			}
			return body, held, nil
		}
		if err != nil {
			return nil, held, err
		}
	}
}
