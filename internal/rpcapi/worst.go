package rpcapi

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Worst is the most careful safety of what a body asks for, which nobody has read so far: a request, a batch, or no
// JSON at all. It errs on the side of care, since a node may read a body less strictly than the standard does: of a
// repeated member each counts, also one in another case, and JSON that is broken may be anything. A body that can't
// hold a request is a Read: whatever the node says to it, it says twice.
func Worst(body []byte) Safety {
	if bytes.IndexByte(body, '{') < 0 {
		return Read
	}
	r := read(body)
	defer r.release()
	worst := Read
	for {
		s, err := r.worst(0)
		worst = max(worst, s)
		if errors.Is(err, io.EOF) {
			return worst
		}
		if err != nil {
			return Write
		}
	}
}

// worst reads one value. Requests stand at the top or in a batch, not deeper.
func (r *reader) worst(depth int) (Safety, error) {
	switch r.dec.PeekKind() {
	case jsontext.KindBeginObject:
		return r.worstOfRequest()
	case jsontext.KindBeginArray:
		if depth > 0 {
			return Read, r.dec.SkipValue()
		}
	default:
		return Read, r.dec.SkipValue()
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return Read, err
	}
	worst := Read
	for r.more() {
		s, err := r.worst(depth + 1)
		worst = max(worst, s)
		if err != nil {
			return worst, unended(err)
		}
	}
	_, err := r.dec.ReadToken()
	return worst, unended(err)
}

func (r *reader) worstOfRequest() (Safety, error) {
	worst := Read
	if _, err := r.dec.ReadToken(); err != nil {
		return worst, unended(err)
	}
	for r.more() {
		name, err := r.dec.ReadToken()
		if err != nil {
			return worst, unended(err)
		}
		if !strings.EqualFold(name.String(), "method") || r.dec.PeekKind() != jsontext.KindString {
			if err := r.dec.SkipValue(); err != nil {
				return worst, unended(err)
			}
			continue
		}
		method, err := r.dec.ReadToken()
		if err != nil {
			return worst, unended(err)
		}
		worst = max(worst, Lookup(method.String()).Safety)
	}
	_, err := r.dec.ReadToken()
	return worst, unended(err)
}

// unended makes the end of the input in the middle of a value differ from its end after one.
func unended(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
