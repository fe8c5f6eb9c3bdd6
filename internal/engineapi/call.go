package engineapi

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// MaxBatch is how many calls a batch may have, geth's own limit.
const MaxBatch = 2000

// Call is one JSON-RPC request as a view over the body that it was read from.
type Call struct {
	ID     []byte // raw JSON, nil when absent: a notification
	Method string // empty when it can't be said for certain
	Params []byte // the raw array, nil when absent or no array
	Raw    []byte // this element's own bytes

	name []byte // the method as it is in Raw, quoted; nil when Method is empty
}

// Class is what a replay does with the call.
func (c Call) Class() Class { return Classify(c.Method) }

// ParseCalls reads a body as one call or a batch, as views without copies. An element that is no
// readable request is a Call with Raw alone. The error is ErrBody or ErrBatchTooLong.
func ParseCalls(body []byte) (calls []Call, batch bool, err error) {
	trimmed := bytes.TrimLeft(body, " \t\r\n")
	if len(trimmed) > 0 && trimmed[0] == '[' {
		calls, err = parseBatch(trimmed)
		return calls, true, err
	}
	w := walkOver(trimmed, '{')
	c := readCall(&w)
	if w.bad || len(w.rest()) > 0 {
		return nil, false, ErrBody
	}
	c.Raw = trimmed[:w.i]
	return []Call{c}, false, nil
}

func parseBatch(body []byte) ([]Call, error) {
	var calls []Call
	w := walkOver(body, '[')
	for w.next() {
		if len(calls) == MaxBatch {
			return nil, ErrBatchTooLong
		}
		calls = append(calls, parseElement(w.value))
	}
	if w.bad || len(w.rest()) > 0 {
		return nil, ErrBody
	}
	return calls, nil
}

// parseElement reads one element of a batch.
func parseElement(raw []byte) Call {
	w := walkOver(raw, '{')
	c := readCall(&w)
	if w.bad || len(w.rest()) > 0 {
		c = Call{}
	}
	c.Raw = raw
	return c
}

// readCall reads the envelope. Clients' decoders fold the case of members and take the last of
// repeated ones; a call on which readers could differ keeps its id and loses its method.
func readCall(w *walk) (c Call) {
	var method, name []byte
	var doubtful bool
	var seen [3]bool
	for w.next() {
		key, ok := unquote(w.key)
		if !ok {
			doubtful = true
			continue
		}
		i := envelopeMember(key)
		if i < 0 {
			continue
		}
		doubtful = doubtful || seen[i] || string(key) != envelope[i]
		seen[i] = true
		switch i {
		case 0:
			c.ID = w.value
		case 1:
			name = w.value
			method, ok = unquote(w.value)
			doubtful = doubtful || !ok
		default:
			if w.value[0] == '[' {
				c.Params = w.value
			}
		}
	}
	if !doubtful && method != nil {
		c.Method, c.name = methodName(method), name
	}
	return c
}

var envelope = [...]string{"id", "method", "params"} //nolint:gochecknoglobals // a table

// envelopeMember is the index of the member that key means to a reader that folds case, else -1.
func envelopeMember(key []byte) int {
	for i, name := range envelope {
		if len(key) >= len(name) && strings.EqualFold(string(key), name) {
			return i
		}
	}
	return -1
}

func methodName(method []byte) string {
	if name, ok := known[string(method)]; ok {
		return name
	}
	return string(method)
}

// Param is the raw i-th parameter, nil when there are fewer.
func (c Call) Param(i int) []byte {
	w := walkOver(c.Params, '[')
	for n := 0; w.next(); n++ {
		if n == i {
			return w.value
		}
	}
	return nil
}

// Arity is how many parameters the call has.
func (c Call) Arity() int {
	n := 0
	for w := walkOver(c.Params, '['); w.next(); {
		n++
	}
	return n
}

// WithParam is the call's bytes with value in place of its i-th parameter, everything else as it
// is; ErrParams when there is no such parameter.
func (c Call) WithParam(i int, value []byte) ([]byte, error) {
	old := c.Param(i)
	if old == nil {
		return nil, ErrParams
	}
	return c.splice(old, value)
}

// WithoutAttributes is the call's bytes with null for the attributes: what a client that is not the
// primary may be sent. Arity and custody columns stay. Without attributes it is Raw itself.
func (c Call) WithoutAttributes() ([]byte, error) {
	f, err := c.Forkchoice()
	if err != nil {
		return nil, err
	}
	if !f.Attributes {
		return c.Raw, nil
	}
	return c.WithParam(1, []byte("null"))
}

// Plain is the call without the wish for a witness: nobody reads one that a replay is answered with, and
// other clients know the method without it alone. For any other call it is the call itself.
func (c Call) Plain() (Call, error) {
	plain := Plain(c.Method)
	if plain == c.Method {
		return c, nil
	}
	raw, err := c.splice(c.name, strconv.AppendQuote(nil, plain))
	if err != nil {
		return Call{}, err
	}
	calls, _, err := ParseCalls(raw)
	if err != nil {
		return Call{}, err
	}
	return calls[0], nil
}

// WithID is the call's bytes with another raw id; ErrParams for a notification.
func (c Call) WithID(id []byte) ([]byte, error) {
	if c.ID == nil {
		return nil, ErrParams
	}
	return c.splice(c.ID, id)
}

// splice replaces the part of Raw that the view old is.
func (c Call) splice(old, value []byte) ([]byte, error) {
	// Both are views of one array: the distance to its end tells where old begins.
	at := cap(c.Raw) - cap(old)
	if at < 0 || at+len(old) > len(c.Raw) || &c.Raw[at] != &old[0] {
		return nil, ErrParams
	}
	return slices.Concat(c.Raw[:at], value, c.Raw[at+len(old):]), nil
}
