package rpcapi

import (
	"bytes"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// reader reads JSON that somebody else owns, as views over it.
type reader struct {
	dec    jsontext.Decoder
	source bytes.Buffer
	large  bool // what it reads
}

var readers = sync.Pool{New: func() any { return new(reader) }} //nolint:gochecknoglobals // a pool is shared by nature

// read borrows a reader; release gives it back, after which no view may be taken from it.
func read(body []byte) *reader {
	r := readers.Get().(*reader) //nolint:forcetypeassert // holds nothing else
	r.source, r.large = *bytes.NewBuffer(body), len(body) > maxKept
	r.dec.Reset(&r.source, jsontext.AllowDuplicateNames(true))
	return r
}

// release gives r back. Its decoder still knows what it read, which nobody looks at: only what is large is worth being
// forgotten at once.
func (r *reader) release() {
	r.source = bytes.Buffer{}
	if r.large {
		r.dec.Reset(&r.source)
	}
	readers.Put(r)
}

// open enters an array or object; false: there is none.
func (r *reader) open(kind jsontext.Kind) bool {
	if r.dec.PeekKind() != kind {
		return false
	}
	_, err := r.dec.ReadToken()
	return err == nil
}

// more says that the array or object that was entered has another element.
func (r *reader) more() bool {
	switch r.dec.PeekKind() {
	case jsontext.KindInvalid, jsontext.KindEndArray, jsontext.KindEndObject:
		return false
	default:
		return true
	}
}

// value is the next value as it was written; nil: it can't be read.
func (r *reader) value() []byte {
	v, err := r.dec.ReadValue()
	if err != nil {
		return nil
	}
	return v
}

// param is the parameter at index; nil and true: there is none. False is parameters that are not in a list.
func (r *reader) param(index uint8) ([]byte, bool) {
	switch r.dec.PeekKind() {
	case jsontext.KindInvalid, jsontext.KindNull:
		return nil, true
	case jsontext.KindBeginArray:
	default:
		return nil, false
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return nil, false
	}
	for ; index > 0 && r.more(); index-- {
		if r.dec.SkipValue() != nil {
			return nil, false
		}
	}
	if r.dec.PeekKind() == jsontext.KindEndArray {
		return nil, true
	}
	v := r.value()
	return v, v != nil
}

// text is what stands between the quotes of a string without escapes; false of anything else.
func text(v []byte) ([]byte, bool) {
	if len(v) < 2 || v[0] != '"' || bytes.IndexByte(v, '\\') >= 0 {
		return nil, false
	}
	return v[1 : len(v)-1], true
}

func isNull(v []byte) bool { return len(v) == 0 || v[0] == 'n' }
