package order

import (
	"bytes"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth bounds the nesting of one call's parameters, the array around them included.
const maxDepth = 64

// maxValues bounds how many containers, members and unknown values one call's parameters have:
// remembering names against duplicates costs about ten times their size.
const maxValues = 1 << 16

// maxScratch is the largest scratch space that is kept for the next reader, bytes.
const maxScratch = 64 << 10

// reader reads one call's parameters token by token. Member names are case-sensitive, a duplicate
// is refused at any depth. What its methods return is a view over the input, or over scratch when
// the sender escaped a string: valid until the next string is read.
type reader struct {
	dec     jsontext.Decoder
	source  bytes.Buffer
	scratch []byte
	// arena receives everything that is hex in the input. Its capacity is half of the input's
	// length, which no decoding can exceed, so it never moves and slices of it stay valid.
	arena  []byte
	values int // still allowed
	// lenient: something was written as only FlowProxy's types read it, see Submission.Strict.
	lenient bool
}

// span is a member in the input: from its name's quote to the end of its value.
type span struct{ start, end int }

func (s span) empty() bool { return s.end == 0 }

var readers = sync.Pool{New: func() any { return new(reader) }} //nolint:gochecknoglobals // a pool is shared by nature

func newReader(input []byte) *reader {
	r := readers.Get().(*reader) //nolint:forcetypeassert // holds nothing else
	r.source = *bytes.NewBuffer(input)
	r.values, r.lenient = maxValues, false
	r.dec.Reset(&r.source)
	return r
}

// release gives the reader back; the arena stays with the submission.
func (r *reader) release() {
	r.source = bytes.Buffer{}
	r.dec.Reset(&r.source)
	r.arena = nil
	if cap(r.scratch) > maxScratch {
		r.scratch = nil
	}
	readers.Put(r)
}

// offset is where the last token ended.
func (r *reader) offset() int { return int(r.dec.InputOffset()) }

// next is the kind of the next token; zero when there is none that could be read.
func (r *reader) next() jsontext.Kind { return r.dec.PeekKind() }

// scalar reads the next value if it is of kind k.
func (r *reader) scalar(k jsontext.Kind, expected string) ([]byte, *fault) {
	if got := r.next(); got != k && got != jsontext.KindInvalid {
		return nil, malformed(expected)
	}
	v, err := r.dec.ReadValue()
	if err != nil {
		return nil, syntaxFault(err)
	}
	return v, nil
}

// null consumes a null and reports whether there was one: null is the same as an absent member.
func (r *reader) null() bool {
	if r.next() != jsontext.KindNull {
		return false
	}
	_, err := r.dec.ReadToken()
	return err == nil
}

// text reads a string, without its quotes and escapes.
func (r *reader) text(expected string) ([]byte, *fault) {
	v, f := r.scalar(jsontext.KindString, expected)
	if f != nil {
		return nil, f
	}
	return r.unquote(v)
}

func (r *reader) unquote(v []byte) ([]byte, *fault) {
	if bytes.IndexByte(v, '\\') < 0 {
		return v[1 : len(v)-1], nil
	}
	var err error
	if r.scratch, err = jsontext.AppendUnquote(r.scratch[:0], v); err != nil {
		return nil, malformed("bad string")
	}
	return r.scratch, nil
}

// begin enters an array or an object.
func (r *reader) begin(k jsontext.Kind, expected string) *fault {
	if got := r.next(); got != k && got != jsontext.KindInvalid {
		return malformed(expected)
	}
	if r.dec.StackDepth() >= maxDepth {
		return tooDeep()
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return syntaxFault(err)
	}
	return r.count()
}

// count takes one value off what is allowed.
func (r *reader) count() *fault {
	if r.values--; r.values < 0 {
		return malformed("more than " + strconv.Itoa(maxValues) + " values")
	}
	return nil
}

func (r *reader) end() *fault {
	if _, err := r.dec.ReadToken(); err != nil {
		return syntaxFault(err)
	}
	return nil
}

// object reads an object and calls member for each of its members, after the name; start is the
// name's offset. member must consume the value.
func (r *reader) object(member func(name []byte, start int) *fault) *fault {
	if f := r.begin(jsontext.KindBeginObject, "expected an object"); f != nil {
		return f
	}
	return r.rest(member)
}

// rest is object after the opening brace.
func (r *reader) rest(member func(name []byte, start int) *fault) *fault {
	for r.next() == jsontext.KindString {
		if f := r.count(); f != nil {
			return f
		}
		v, err := r.dec.ReadValue()
		if err != nil {
			return syntaxFault(err)
		}
		start := r.offset() - len(v)
		name, f := r.unquote(v)
		if f != nil {
			return f
		}
		if f := member(name, start); f != nil {
			return f
		}
	}
	return r.end()
}

// array reads an array and calls element for each of its elements, which must consume it.
func (r *reader) array(element func(i int) *fault) *fault {
	if f := r.begin(jsontext.KindBeginArray, "expected an array"); f != nil {
		return f
	}
	for i := 0; ; i++ {
		if k := r.next(); k == jsontext.KindEndArray || k == jsontext.KindInvalid {
			return r.end()
		}
		if f := element(i); f != nil {
			return f.at(i)
		}
	}
}

// skip passes over a value of any kind.
func (r *reader) skip() *fault {
	switch r.next() {
	case jsontext.KindBeginArray, jsontext.KindBeginObject:
	default:
		if err := r.dec.SkipValue(); err != nil {
			return syntaxFault(err)
		}
		return nil
	}
	// Token by token, because the depth must be watched; an unknown tree is rare.
	for outer := r.dec.StackDepth(); ; {
		if f := r.count(); f != nil {
			return f
		}
		if _, err := r.dec.ReadToken(); err != nil {
			return syntaxFault(err)
		}
		switch depth := r.dec.StackDepth(); {
		case depth > maxDepth:
			return tooDeep()
		case depth == outer:
			return nil
		}
	}
}

func tooDeep() *fault { return malformed("nested deeper than " + strconv.Itoa(maxDepth) + " levels") }
