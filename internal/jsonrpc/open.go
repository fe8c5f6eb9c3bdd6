package jsonrpc

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// Shape is what a body holds.
type Shape uint8

// Shapes.
const (
	ShapeSingle Shape = iota + 1
	ShapeBatch
	ShapeTooLong // a batch of more calls than may be; it was not read to its end
)

// ParseOpen reads a body for those who pass calls on: an absent id is a notification, with a nil Request.ID, and any
// null is an id; an envelope that lacks something is an invalid request, not a parse error. Calls are appended to
// dst[:0]. Err is set when the whole body has one answer. A faulty call has an error of its own, with its id where
// that could be read, also when it is alone.
//
// Members that the envelope does not know are let pass, unless they are one of its own to a reader that does not
// tell capitals: such a reader would see another call than this one.
func ParseOpen(dst []Call, body []byte, maxBatch int) (calls []Call, shape Shape, err *Error) {
	p := parsers.Get().(*parser) //nolint:forcetypeassert // holds nothing else
	defer p.release()
	p.body = body
	p.source = *bytes.NewBuffer(body)
	p.dec.Reset(&p.source, jsontext.AllowDuplicateNames(true))
	if p.dec.PeekKind() == jsontext.KindBeginArray {
		return p.openBatch(dst[:0], maxBatch)
	}
	c, err := p.openCall()
	if err == nil {
		err = p.end()
	}
	return append(dst[:0], c), ShapeSingle, err
}

func (p *parser) openBatch(calls []Call, maxBatch int) ([]Call, Shape, *Error) {
	if _, e := p.dec.ReadToken(); e != nil {
		return calls, ShapeBatch, syntaxError(e)
	}
	for p.dec.PeekKind() != jsontext.KindEndArray {
		if len(calls) >= maxBatch {
			return calls, ShapeTooLong, nil
		}
		c, err := p.openCall()
		if err != nil {
			return calls, ShapeBatch, err
		}
		calls = append(calls, c)
	}
	if _, e := p.dec.ReadToken(); e != nil {
		return calls, ShapeBatch, syntaxError(e)
	}
	if err := p.end(); err != nil {
		return calls, ShapeBatch, err
	}
	if len(calls) == 0 {
		return calls, ShapeBatch, invalidRequest("empty batch")
	}
	return calls, ShapeBatch, nil
}

// openCall reads one request. The error is one of JSON itself.
func (p *parser) openCall() (c Call, err *Error) {
	if p.dec.PeekKind() != jsontext.KindBeginObject {
		if e := p.dec.SkipValue(); e != nil {
			return c, syntaxError(e)
		}
		c.Err = invalidRequest("expected an object")
		return c, nil
	}
	var e envelope
	if err := p.members(&e); err != nil {
		return c, err
	}
	c.Request, c.Err = e.finishOpen()
	return c, nil
}

// finishOpen judges the envelope. Raw is set in any case.
func (e *envelope) finishOpen() (Request, *Error) {
	faulty := func(what string) (Request, *Error) {
		r := Request{Raw: e.request.Raw}
		if !e.badID && e.repeated != "id" {
			r.ID = e.request.ID
		}
		return r, invalidRequest(what)
	}
	switch {
	case e.repeated != "":
		return faulty("duplicate member")
	case e.alias:
		return faulty("ambiguous member")
	case e.badID:
		return faulty("id: expected a string, a number or null")
	case string(e.version) != `"2.0"`:
		return faulty(`jsonrpc: expected "2.0"`)
	case e.method == nil:
		return faulty("method is missing")
	}
	method, ok := text(e.method)
	if !ok || len(method) == 0 {
		return faulty("method: expected a string")
	}
	e.request.Method = string(method)
	return e.request, nil
}

// Member is the raw value of an object's member, a view over body; nil: there is none. The first of several counts.
func Member(body []byte, name string) []byte {
	p := parsers.Get().(*parser) //nolint:forcetypeassert // holds nothing else
	defer p.release()
	p.body = body
	p.source = *bytes.NewBuffer(body)
	p.dec.Reset(&p.source, jsontext.AllowDuplicateNames(true))
	if p.dec.PeekKind() != jsontext.KindBeginObject {
		return nil
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return nil
	}
	for p.dec.PeekKind() == jsontext.KindString {
		t, err := p.dec.ReadToken()
		if err != nil {
			return nil
		}
		found := t.String() == name
		value, err := p.dec.ReadValue()
		if err != nil {
			return nil
		}
		if found {
			return value
		}
	}
	return nil
}
