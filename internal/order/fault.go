package order

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// fault is a refusal while its place in the parameters is still being found: each level of the
// decoder that it passes adds itself, so the place costs nothing on the good path.
type fault struct {
	code Code
	path []string // innermost first
	text string
}

func malformed(text string) *fault { return &fault{code: CodeMalformed, text: text} }

// in adds the member or element that the fault was found in; a nil fault stays nil.
func (f *fault) in(name string) *fault {
	if f != nil {
		f.path = append(f.path, name)
	}
	return f
}

// at adds the index of an array's element.
func (f *fault) at(i int) *fault {
	if f != nil {
		f.path = append(f.path, "["+strconv.Itoa(i)+"]")
	}
	return f
}

// reason is the refusal with its place, as "body[2].tx: expected a hex string".
func (f *fault) reason() *Reason {
	if len(f.path) == 0 {
		return Refuse(f.code, f.text)
	}
	var b strings.Builder
	for _, name := range slices.Backward(f.path) {
		if b.Len() > 0 && !strings.HasPrefix(name, "[") {
			b.WriteByte('.')
		}
		b.WriteString(name)
	}
	b.WriteString(": ")
	b.WriteString(f.text)
	return Refuse(f.code, b.String())
}

// maxQuoted bounds what a refusal repeats of the sender's own text.
const maxQuoted = 48

// syntaxFault says what is wrong with the JSON itself.
func syntaxFault(err error) *fault {
	syntax, ok := errors.AsType[*jsontext.SyntacticError](err)
	if !ok {
		return malformed("JSON ends too early")
	}
	if errors.Is(syntax.Err, jsontext.ErrDuplicateName) {
		name := syntax.JSONPointer.LastToken()
		if len(name) > maxQuoted {
			name = strings.ToValidUTF8(name[:maxQuoted], "") + "…"
		}
		return malformed("duplicate member " + strconv.QuoteToASCII(name))
	}
	return malformed("JSON: " + syntax.Err.Error() + " after byte " + strconv.FormatInt(syntax.ByteOffset, 10))
}
