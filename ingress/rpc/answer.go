package rpc

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"millrace/internal/jsonrpc"
	"millrace/internal/rpcapi"
)

// outcome is what became of one call.
type outcome struct {
	body   []byte // the answer under the caller's id; nil with err
	err    error
	answer *rpcapi.Answer
	source rpcapi.Source
}

// Answer answers one message of a WebSocket, a request or a batch; nil: there is nothing to say. The message's bytes
// stay as they are for ever; the reply is the caller's. Subscriptions are not for it.
func (d *Door) Answer(ctx context.Context, msg []byte, c Client) (reply []byte) {
	m := d.messages.Get().(*message) //nolint:forcetypeassert // holds nothing else
	m.policy, m.dialect, m.carrier, m.client, m.received = d.policy.Load(), dialectJSONRPC, overSocket, c, time.Now()
	m.body.data = msg
	d.inflight.Add(1)
	reply = d.answer(ctx, m, msg)
	m.out = nil // the reply may be in it
	m.elapsed = time.Since(m.received)
	d.account(ctx, m, len(reply))
	d.inflight.Add(-1)
	d.recycle(m)
	return reply
}

// answer makes the reply to a body; empty: there is none. It may be in m.out.
func (d *Door) answer(ctx context.Context, m *message, data []byte) []byte {
	m.status = 200
	calls, shape, err := jsonrpc.ParseOpen(m.calls, data, m.policy.BatchMax)
	m.calls = calls
	switch {
	case err != nil:
		return m.fail(unread(err), nil)
	case shape == jsonrpc.ShapeTooLong:
		return m.tooLong()
	case shape == jsonrpc.ShapeBatch:
		return d.batch(ctx, m)
	}
	c := &calls[0]
	o := d.one(ctx, m, c, data)
	m.answer, m.source = o.answer, o.source
	switch {
	case c.Request.ID == nil && c.Err == nil:
		m.note(o.err)
		return nil
	case o.err != nil:
		return m.fail(o.err, c.Request.ID)
	case len(o.body) == 0:
		return m.fail(errNoJSON, c.Request.ID) // nobody is to take that for the answer to a notification
	}
	return o.body
}

// one has one call answered; raw is the call as it goes to a node.
func (d *Door) one(ctx context.Context, m *message, c *jsonrpc.Call, raw []byte) (o outcome) {
	defer func() {
		if v := recover(); v != nil {
			o = outcome{err: d.panicked(ctx, v)}
		}
	}()
	if c.Err != nil {
		d.metrics.called(rpcapi.LabelOther, callRefused)
		return outcome{err: unread(c.Err)}
	}
	method := rpcapi.Lookup(c.Request.Method)
	if err := d.refuse(m, &method); err != nil {
		d.metrics.called(method.Label, callRefused)
		return outcome{err: err}
	}
	o = d.pass(ctx, m, c, &method, raw)
	if o.err != nil {
		d.metrics.called(method.Label, callFailed)
	} else {
		d.metrics.called(method.Label, callAnswered)
	}
	return o
}

// Admit is nil, or the error that answers a client who may not call the method now. It is for calls that do not come
// through Answer: subscriptions.
func (d *Door) Admit(c Client, method string) *jsonrpc.Error {
	p := d.policy.Load()
	err := d.limit(&c, method)
	if err == nil && p.restrict && !p.methods.may(method) {
		err = denied(method)
	}
	if err == nil {
		return nil
	}
	d.metrics.called(rpcapi.Lookup(method).Label, callRefused)
	f := faultOf(err)
	return &jsonrpc.Error{Code: f.code, Message: f.text, Data: string(f.reason)}
}

// limit counts a call of this client's, and is the error of one too many.
func (d *Door) limit(c *Client, method string) error {
	if l := d.ports.Limits; l != nil {
		if retry, ok := l.Allow(c.IP, c.Key, method, 1); !ok {
			return rateLimited(retry)
		}
	}
	return nil
}

// refuse is the error of a call that goes to no node.
func (d *Door) refuse(m *message, method *rpcapi.Method) error {
	if err := d.limit(&m.client, method.Name); err != nil {
		return err
	}
	if method.Safety == rpcapi.Subscribing {
		text := textOverHTTP
		if m.carrier == overSocket {
			text = textInBatch
		}
		return invalid(text, codeSubscription)
	}
	if m.policy.restrict && !m.policy.methods.may(method.Name) {
		return denied(method.Name)
	}
	return nil
}

// pass has a call answered by the cache or by a node.
func (d *Door) pass(ctx context.Context, m *message, c *jsonrpc.Call, method *rpcapi.Method, raw []byte) (o outcome) {
	e := d.errand(m)
	defer e.end()
	call := &e.call
	call.Body, call.Method, call.Block = raw, method.Name, method.Block(c.Request.Params)
	if method.Safety == rpcapi.FilterUse {
		var ok bool
		if call.Body, call.Node, ok = rpcapi.UntagRequest(raw); !ok {
			return outcome{err: noFilter(c.Request.Params)}
		}
	}
	if d.ports.Cache != nil && c.Request.ID != nil && method.Cache != rpcapi.CacheNever {
		o.answer, o.source, o.err = d.ports.Cache.Do(ctx, call, *method, c.Request.Params, c.Request.ID, e.fetch)
	} else {
		o.answer, o.err = e.fetch(ctx)
	}
	if o.err != nil {
		if node, ok := errors.AsType[*rpcapi.NodeError](o.err); ok {
			o.answer = &rpcapi.Answer{Status: node.Status, Node: node.Node, Tries: node.Tries}
		}
		return o
	}
	o.body = o.answer.Body
	switch method.Safety {
	case rpcapi.FilterNew:
		if o.answer.Node != nil {
			o.body, _ = rpcapi.TagAnswer(o.body, o.answer.Node.Tag)
		}
	case rpcapi.Transaction:
		o.body, _ = rpcapi.NormaliseKnown(o.body, c.Request.Params)
	default:
	}
	return o
}

// noFilter is the error of a call on a filter that names no node.
func noFilter(params []byte) error {
	if first := bytes.TrimLeft(params, "[ \t\r\n"); len(first) > 0 && first[0] == '"' {
		return rpcapi.ErrFilterNotFound
	}
	return invalid(jsonrpc.MessageInvalidParams, jsonrpc.CodeInvalidParams)
}

// note remembers an error for headers, metrics and the log; of several the one to wait longest for.
func (m *message) note(err error) fault {
	if err == nil {
		return fault{}
	}
	f := faultOf(err)
	m.tries = max(m.tries, rpcapi.TriesOf(err))
	if m.reason == "" || f.retry > m.fault.retry {
		m.reason, m.fault = f.reason, f
	}
	return f
}

// fail makes the whole reply an error; of a node's own error, what it said.
func (m *message) fail(err error, id []byte) []byte {
	f := m.note(err)
	m.status = f.status(m.policy.HTTPStatus)
	if node, ok := errors.AsType[*rpcapi.NodeError](err); ok && m.policy.HTTPStatus == StatusMapped {
		m.status = node.Status
	}
	m.out = appendFailure(m.out, id, &f, err)
	return m.out
}

// appendFailure appends an error under the caller's id: the node's, when it is one of JSON-RPC.
func appendFailure(dst, id []byte, f *fault, err error) []byte {
	if node, ok := errors.AsType[*rpcapi.NodeError](err); ok {
		if object := errorObject(node.Body); object != nil {
			if id == nil {
				id = []byte("null")
			}
			dst = append(append(dst, `{"jsonrpc":"2.0","id":`...), id...)
			return append(append(append(dst, `,"error":`...), object...), '}')
		}
	}
	return f.appendTo(dst, id)
}

// errorObject is the error in a JSON-RPC answer; nil: it is something else. An error's code tells it from the JSON
// that gateways before a node make up.
func errorObject(answer []byte) []byte {
	object := jsontext.Value(member(answer, "error"))
	if object == nil || object.Kind() != jsontext.KindBeginObject {
		return nil
	}
	if code := jsontext.Value(member(object, "code")); code == nil || code.Kind() != jsontext.KindNumber {
		return nil
	}
	return object
}

// member is the raw value of an object's member; nil: there is none, or body is no JSON.
func member(body []byte, name string) (value []byte) {
	if !jsontext.Value(body).IsValid(jsontext.AllowDuplicateNames(true)) {
		return nil
	}
	return jsonrpc.Member(body, name)
}

// tooLong refuses a batch as geth does: an array with one error, under the first call's id.
func (m *message) tooLong() []byte {
	r := &refusal{reason: rpcapi.ReasonBatchTooLarge, code: jsonrpc.CodeInvalidRequest, text: textBatch, status: 200}
	var id []byte
	for i := range m.calls {
		if id = m.calls[i].Request.ID; id != nil {
			break
		}
	}
	m.out = append(m.out, '[')
	return append(m.fail(r, id), ']')
}
