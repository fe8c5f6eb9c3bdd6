package jsonrpc

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// parser reads one body.
type parser struct {
	dec    jsontext.Decoder
	source bytes.Buffer
	body   []byte
}

var parsers = sync.Pool{New: func() any { return new(parser) }} //nolint:gochecknoglobals // a pool is shared by nature

// envelope is the set of members that an object had.
type envelope struct {
	request Request
	version []byte // raw
	method  []byte // raw
	// repeated is a member of the envelope that is there twice, badID says that the id is of a
	// type that no id has.
	repeated string
	badID    bool
	// alias: an unknown member differs from one of the envelope's in its capitals only.
	alias bool
}

// Parse reads a body as one request or a batch of at most maxBatch. Err is set when the whole body
// has one answer: it is no JSON, the batch is empty or too long, or the single request is at fault.
// A faulty element of a batch has its own error and leaves the others alone.
//
// Duplicate members of the envelope are faults; the parameters are only checked to be JSON, what
// they may repeat is for the method to say.
func Parse(body []byte, maxBatch int) (calls []Call, batch bool, err *Error) {
	p := parsers.Get().(*parser) //nolint:forcetypeassert // holds nothing else
	defer p.release()
	p.body = body
	p.source = *bytes.NewBuffer(body)
	p.dec.Reset(&p.source, jsontext.AllowDuplicateNames(true))

	batch = p.dec.PeekKind() == jsontext.KindBeginArray
	if batch {
		calls, err = p.batch(maxBatch)
	} else {
		calls, err = p.single()
	}
	if err != nil {
		return nil, batch, err
	}
	if err := p.end(); err != nil {
		return nil, batch, err
	}
	return calls, batch, nil
}

// end is the error of a body that goes on.
func (p *parser) end() *Error {
	if _, e := p.dec.ReadToken(); !errors.Is(e, io.EOF) {
		return parseError("data after the request")
	}
	return nil
}

// release gives p back. Its decoder still knows the body, which nobody looks at: only a large one is worth being forgotten
// at once.
func (p *parser) release() {
	large := len(p.body) > keptBody
	p.body, p.source = nil, bytes.Buffer{}
	if large {
		p.dec.Reset(&p.source)
	}
	parsers.Put(p)
}

// keptBody is up to how many bytes a parser that waits to be used may keep from being collected.
const keptBody = 64 << 10

func (p *parser) single() ([]Call, *Error) {
	call, err := p.call()
	if err == nil {
		err = call.Err
	}
	if err != nil {
		return nil, err
	}
	return []Call{call}, nil
}

func (p *parser) batch(maxBatch int) (calls []Call, err *Error) {
	if _, e := p.dec.ReadToken(); e != nil {
		return nil, syntaxError(e)
	}
	for p.dec.PeekKind() != jsontext.KindEndArray {
		if len(calls) >= maxBatch {
			return nil, invalidRequest("batch of more than " + strconv.Itoa(max(maxBatch, 0)) + " requests")
		}
		call, err := p.call()
		if err != nil {
			return nil, err
		}
		calls = append(calls, call)
	}
	if _, e := p.dec.ReadToken(); e != nil {
		return nil, syntaxError(e)
	}
	if len(calls) == 0 {
		return nil, invalidRequest("empty batch")
	}
	return calls, nil
}

// call reads one request. The error is one of JSON itself, after which nothing can be read; every
// other is the call's own.
func (p *parser) call() (c Call, err *Error) {
	if k := p.dec.PeekKind(); k != jsontext.KindBeginObject {
		if e := p.dec.SkipValue(); e != nil {
			return c, syntaxError(e)
		}
		c.Err = parseError("expected an object")
		return c, nil
	}
	var e envelope
	if err := p.members(&e); err != nil {
		return c, err
	}
	c.Request, c.Err = e.finish()
	return c, nil
}

// members reads the object's members up to its end.
func (p *parser) members(e *envelope) *Error {
	if _, err := p.dec.ReadToken(); err != nil {
		return syntaxError(err)
	}
	start := int(p.dec.InputOffset()) - 1
	for p.dec.PeekKind() == jsontext.KindString {
		name, err := p.dec.ReadValue()
		if err != nil {
			return syntaxError(err)
		}
		value, err := p.dec.ReadValue()
		if err != nil {
			return syntaxError(err)
		}
		e.set(name, value)
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return syntaxError(err)
	}
	e.request.Raw = p.body[start:int(p.dec.InputOffset())]
	return nil
}

// set notes a member; both slices are views over the body.
func (e *envelope) set(quoted, value []byte) {
	name, _ := text(quoted) // the decoder accepted it
	once := func(to *[]byte, what string) {
		if *to != nil {
			e.repeated = what
		}
		*to = value
	}
	switch string(name) {
	case "id":
		once(&e.request.ID, "id")
		switch jsontext.Value(value).Kind() {
		case jsontext.KindString, jsontext.KindNumber, jsontext.KindNull:
		default:
			e.badID = true
		}
	case "jsonrpc":
		once(&e.version, "jsonrpc")
	case "method":
		once(&e.method, "method")
	case "params":
		once(&e.request.Params, "params")
	default:
		e.alias = e.alias || isAlias(name)
	}
}

// isAlias tells a name that readers which fold letters, as Go's own does, take for a member of the envelope.
func isAlias(name []byte) bool {
	for _, known := range [...]string{"id", "jsonrpc", "method", "params"} {
		if bytes.EqualFold(name, []byte(known)) {
			return true
		}
	}
	return false
}

// finish judges the envelope as FlowProxy does: whatever it lacks is a parse error, and then the
// version must be right.
func (e *envelope) finish() (Request, *Error) {
	switch {
	case e.repeated != "":
		return Request{}, parseError("duplicate member " + strconv.Quote(e.repeated))
	case e.request.ID == nil:
		return Request{}, parseError("id is missing")
	case e.badID:
		return Request{}, parseError("id: expected a string, a number or null")
	case e.version == nil:
		return Request{}, parseError("jsonrpc is missing")
	case e.method == nil:
		return Request{}, parseError("method is missing")
	}
	version, ok := text(e.version)
	if !ok {
		return Request{}, parseError("jsonrpc: expected a string")
	}
	method, ok := text(e.method)
	if !ok {
		return Request{}, parseError("method: expected a string")
	}
	if string(version) != "2.0" {
		return Request{}, invalidRequest(`jsonrpc: expected "2.0"`)
	}
	e.request.Method = string(method)
	return e.request, nil
}

// text returns what a JSON string says; ok is false for any other value.
func text(v []byte) (s []byte, ok bool) {
	switch {
	case v[0] != '"':
		return nil, false
	case bytes.IndexByte(v, '\\') < 0:
		return v[1 : len(v)-1], true
	}
	s, err := jsontext.AppendUnquote(nil, v)
	return s, err == nil
}

func parseError(data string) *Error {
	return &Error{Code: CodeParse, Message: MessageParse, Data: data}
}

func invalidRequest(data string) *Error {
	return &Error{Code: CodeInvalidRequest, Message: MessageInvalidRequest, Data: data}
}

// syntaxError says where the body stops being JSON.
func syntaxError(err error) *Error {
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return parseError(syntax.Err.Error() + " after byte " + strconv.FormatInt(syntax.ByteOffset, 10))
	}
	return parseError("body ends too early")
}
