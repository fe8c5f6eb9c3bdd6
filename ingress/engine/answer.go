package engine

import (
	"bytes"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"millrace/internal/engineapi"
	"millrace/internal/jsonrpc"
)

// Messages of the errors that the door itself answers.
const (
	messageUnreachable = "the primary execution client is unreachable"
	messageTooSlow     = "the primary execution client did not answer in time"
	messageStatus      = "the primary execution client answered HTTP "
	messageBatch       = "batch too large" // geth's
	messageBusy        = "the door has too many bytes in flight"
)

// views are the parts of an answer that belong to the exchange's requests, in their order. A body
// that is no batch answers all of them; a call that nothing answers, such as a notification, has an
// empty part.
func views(x *exchange, body []byte) [][]byte {
	out := make([][]byte, max(len(x.requests), 1))
	elements, batch, err := engineapi.ParseCalls(body)
	if !x.batch || !batch || err != nil {
		for i := range out {
			out[i] = body
		}
		return out
	}
	match(x.calls, elements, out)
	return out
}

// match assigns the elements of a batch's answer: by id, and where an id came back in another
// spelling, by position.
func match(calls, elements []engineapi.Call, out [][]byte) {
	asked := make([]int, 0, len(calls)) // those that get an answer
	for i, c := range calls {
		if c.ID != nil {
			asked = append(asked, i)
		}
	}
	free := func(i int) bool { return out[i] == nil }
	for n, e := range elements {
		if n < len(asked) && free(asked[n]) && (bytes.Equal(calls[asked[n]].ID, e.ID) || e.ID == nil) {
			out[asked[n]] = e.Raw
			continue
		}
		found := false
		for _, i := range asked {
			if free(i) && bytes.Equal(calls[i].ID, e.ID) {
				out[i], found = e.Raw, true
				break
			}
		}
		if !found && len(asked) == len(elements) && free(asked[n]) {
			out[asked[n]] = e.Raw
		}
	}
}

// failure is the JSON-RPC answer to an exchange without one: an error per call under the caller's
// own ids.
func failure(x *exchange, status int) []byte {
	e := &jsonrpc.Error{Code: jsonrpc.CodeInternal, Message: messageUnreachable}
	if status == http.StatusGatewayTimeout {
		e.Message = messageTooSlow
	}
	return appendErrors(x, e)
}

// appendErrors answers every call that asks for an answer; a body without readable calls gets one
// answer under null.
func appendErrors(x *exchange, e *jsonrpc.Error) []byte {
	if len(x.calls) == 0 {
		return appendError(nil, nil, e)
	}
	var out []byte
	for _, c := range x.calls {
		if c.ID == nil {
			continue
		}
		if len(out) > 0 {
			out = append(out, ',')
		}
		out = appendError(out, validID(c.ID), e)
	}
	if x.batch && len(out) > 0 {
		return append(append([]byte{'['}, out...), ']')
	}
	return out
}

// appendError appends an error with its members in geth's order; a nil id is null.
func appendError(dst, id []byte, e *jsonrpc.Error) []byte {
	if id == nil {
		id = []byte("null")
	}
	dst = append(append(dst, `{"jsonrpc":"2.0","id":`...), id...)
	dst = strconv.AppendInt(append(dst, `,"error":{"code":`...), int64(e.Code), 10)
	dst, _ = jsontext.AppendQuote(append(dst, `,"message":`...), e.Message) // fails on bad UTF-8 alone
	return append(dst, "}}"...)
}

// validID is the raw id, or nil for what is no id: it is echoed into JSON of our own.
func validID(id []byte) []byte {
	v := jsontext.Value(id)
	switch v.Kind() {
	case jsontext.KindString, jsontext.KindNumber, jsontext.KindNull:
		if v.IsValid() {
			return id
		}
	default:
	}
	return nil
}

// tooManyCalls is geth's answer to a batch above its limit, under the id of the first call.
func tooManyCalls(body []byte) []byte {
	e := &jsonrpc.Error{Code: jsonrpc.CodeInvalidRequest, Message: messageBatch}
	out := appendError([]byte{'['}, firstID(body), e)
	return append(out, ']')
}

// firstID is the id of the first element that is a call with one.
func firstID(body []byte) []byte {
	const looked = 2 * engineapi.MaxBatch
	dec := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if _, err := dec.ReadToken(); err != nil {
		return nil
	}
	for range looked {
		v, err := dec.ReadValue()
		if err != nil {
			return nil
		}
		if calls, batch, err := engineapi.ParseCalls(v); err == nil && !batch && calls[0].ID != nil && calls[0].Method != "" {
			return validID(bytes.Clone(calls[0].ID))
		}
	}
	return nil
}

// writeTo writes the reply as HTTP. What the caller does with its connection is no concern of the
// call's.
func (r reply) writeTo(w http.ResponseWriter) {
	h := w.Header()
	if r.header == nil {
		h["Content-Type"] = []string{contentTypeJSON}
	} else {
		endToEnd(h, r.header)
		if _, ok := h["Content-Type"]; !ok {
			h["Content-Type"] = nil // else the server would guess one
		}
	}
	if bodyAllowed(r.status) {
		h["Content-Length"] = []string{strconv.Itoa(len(r.body))}
	}
	w.WriteHeader(r.status)
	if len(r.body) > 0 {
		_, _ = w.Write(r.body)
	}
	// Recording comes after this and must not be waited for.
	_ = http.NewResponseController(w).Flush()
}

func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}
