package engineapi

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// walk steps through one object or array without looking into what its values hold. It passes long
// strings at the speed of a byte search: a payload of megabytes is mostly hexadecimal text. What is
// not balanced ends the walk with bad set; other faults inside values are not seen.
type walk struct {
	b     []byte
	i     int
	open  byte
	began bool
	bad   bool
	key   []byte // raw with quotes; objects only
	value []byte // raw
}

// walkOver begins a walk over the container in b, '{' or '['.
func walkOver(b []byte, open byte) walk {
	w := walk{b: b, open: open}
	w.space()
	if w.peek() != open {
		w.bad = true
	}
	w.i++
	return w
}

// next steps to the next member or element; false at the end or on a fault.
func (w *walk) next() bool {
	if w.bad {
		return false
	}
	w.space()
	c := w.peek()
	if c == w.open+2 { // '}' is '{'+2 and ']' is '['+2
		w.i++
		return false
	}
	if w.began {
		if c != ',' {
			return w.fail()
		}
		w.i++
		w.space()
	}
	w.began = true
	if w.open == '{' && !w.name() {
		return w.fail()
	}
	var ok bool
	if w.value, ok = w.take(); !ok {
		return w.fail()
	}
	return true
}

// rest is what follows the container, after the walk ended well.
func (w *walk) rest() []byte { return bytes.TrimLeft(w.b[min(w.i, len(w.b)):], " \t\r\n") }

func (w *walk) fail() bool {
	w.bad = true
	return false
}

// name takes a member's name and its colon.
func (w *walk) name() bool {
	if w.peek() != '"' {
		return false
	}
	var ok bool
	if w.key, ok = w.take(); !ok {
		return false
	}
	w.space()
	if w.peek() != ':' {
		return false
	}
	w.i++
	w.space()
	return true
}

// take takes one value.
func (w *walk) take() ([]byte, bool) {
	start := w.i
	switch w.peek() {
	case '"':
		if !w.text() {
			return nil, false
		}
	case '{', '[':
		if !w.nested() {
			return nil, false
		}
	default:
		for w.i < len(w.b) && !delimiter(w.b[w.i]) {
			w.i++
		}
	}
	return w.b[start:w.i], w.i > start
}

func delimiter(c byte) bool {
	switch c {
	case ' ', '\t', '\r', '\n', ',', ':', ']', '}', '"', '{', '[':
		return true
	}
	return false
}

// text passes a string. The quote that ends it has an even number of backslashes before it.
func (w *walk) text() bool {
	i := w.i + 1
	for {
		n := bytes.IndexByte(w.b[i:], '"')
		if n < 0 {
			return false
		}
		end, slashes := i+n, 0
		for end-1-slashes >= i && w.b[end-1-slashes] == '\\' {
			slashes++
		}
		i = end + 1
		if slashes%2 == 0 {
			w.i = i
			return true
		}
	}
}

// nested passes an object or array with all that is in it.
func (w *walk) nested() bool {
	for depth := 0; w.i < len(w.b); {
		switch w.b[w.i] {
		case '"':
			if !w.text() {
				return false
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		w.i++
		if depth == 0 {
			return true
		}
	}
	return false
}

func (w *walk) space() {
	for w.i < len(w.b) {
		switch w.b[w.i] {
		case ' ', '\t', '\r', '\n':
			w.i++
		default:
			return
		}
	}
}

// peek is the next byte, 0 at the end.
func (w *walk) peek() byte {
	if w.i < len(w.b) {
		return w.b[w.i]
	}
	return 0
}

// unquote is the text of a raw JSON string; without escapes it is a view.
func unquote(raw []byte) ([]byte, bool) {
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' {
		return nil, false
	}
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return inner, true
	}
	text, err := jsontext.AppendUnquote(nil, raw)
	return text, err == nil
}

func isNull(raw []byte) bool { return len(raw) == 0 || string(raw) == "null" }
