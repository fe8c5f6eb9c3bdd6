package socket

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"

	"millrace/internal/jsonrpc"
)

// The methods that are answered here.
const (
	methodSubscribe   = "eth_subscribe"
	methodUnsubscribe = "eth_unsubscribe"
)

// request is one call as views over its message.
type request struct {
	id     []byte // nil: a notification
	method []byte // nil: there is none
	params []byte // nil: there are none
	raw    []byte
}

// ours says whether the request is one that is answered here.
func (r *request) ours() bool {
	return string(r.method) == methodSubscribe || string(r.method) == methodUnsubscribe
}

// split reads a message that may have a request of ours in it. It returns nothing for a message that has none: that
// one, whatever it is, is the door's to judge. Most messages are not read here at all.
func split(message []byte) (requests []request, batch bool) {
	if !bytes.Contains(message, []byte(`subscribe"`)) || !jsontext.Value(message).IsValid(jsontext.AllowDuplicateNames(true)) {
		return nil, false
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(message), jsontext.AllowDuplicateNames(true))
	found := false
	switch dec.PeekKind() {
	case jsontext.KindBeginObject:
		requests = []request{readRequest(dec, message)}
	case jsontext.KindBeginArray:
		batch = true
		_, _ = dec.ReadToken()
		for dec.PeekKind() != jsontext.KindEndArray {
			requests = append(requests, readRequest(dec, message))
		}
	default:
		return nil, false
	}
	for i := range requests {
		found = found || requests[i].ours()
	}
	if !found {
		return nil, false
	}
	return requests, batch
}

// readRequest reads the next value, which is valid JSON. What is no object has nothing but its bytes.
func readRequest(dec *jsontext.Decoder, message []byte) (r request) {
	if dec.PeekKind() != jsontext.KindBeginObject {
		r.raw = view(dec, message)
		return r
	}
	_, _ = dec.ReadToken()
	start := dec.InputOffset() - 1
	for dec.PeekKind() == jsontext.KindString {
		name, _ := dec.ReadValue()
		switch string(name) {
		case `"id"`:
			r.id = view(dec, message)
		case `"params"`:
			r.params = view(dec, message)
		case `"method"`:
			if v := view(dec, message); v[0] == '"' {
				r.method = v[1 : len(v)-1]
			}
		default:
			_ = dec.SkipValue()
		}
	}
	_, _ = dec.ReadToken()
	r.raw = message[start:dec.InputOffset()]
	return r
}

// view is the next value as a part of the message: what the decoder returns does not outlast its next step.
func view(dec *jsontext.Decoder, message []byte) []byte {
	v, _ := dec.ReadValue()
	end := int(dec.InputOffset())
	return message[end-len(v) : end]
}

// whole puts requests together again as a batch.
func whole(requests []request) []byte {
	n := 2
	for i := range requests {
		n += len(requests[i].raw) + 1
	}
	b := append(make([]byte, 0, n), '[')
	for i := range requests {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, requests[i].raw...)
	}
	return append(b, ']')
}

// refusal is what a request of ours in a batch is told.
func refusal() *jsonrpc.Error {
	return &jsonrpc.Error{Code: codeUnsupported, Message: "subscription in batch request is not supported"}
}

// identified is the id to answer under: what is neither a string nor a number nor null is not repeated.
func (r *request) identified() []byte {
	switch jsontext.Value(r.id).Kind() {
	case jsontext.KindString, jsontext.KindNumber, jsontext.KindNull:
		return r.id
	default:
		return []byte("null")
	}
}

// appendNotification writes a subscription's result. id is without characters that JSON escapes.
func appendNotification(dst []byte, id string, result []byte) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"`...)
	dst = append(append(dst, id...), `","result":`...)
	return append(append(dst, result...), "}}"...)
}
