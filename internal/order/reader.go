package order

import (
	"bytes"
	"encoding/hex"
	"math"
	"strconv"
	"sync"

	"github.com/ethereum/go-ethereum/common"
	"github.com/go-json-experiment/json/jsontext"
)

// maxDepth bounds the nesting of one call's parameters, the array around them included.
const maxDepth = 64

// reader reads one call's parameters token by token. Member names are case-sensitive, a duplicate
// is refused at any depth. What its methods return is a view over the input, or over scratch when
// the sender escaped a string: valid until the next string is read.
type reader struct {
	dec     jsontext.Decoder
	source  bytes.Buffer
	scratch []byte
	// arena receives everything that is hex in the input. Its capacity is half of the input's
	// length, which no decoding can exceed, so it never moves and slices of it stay valid.
	arena []byte
}

// span is a member in the input: from its name's quote to the end of its value.
type span struct{ start, end int }

func (s span) empty() bool { return s.end == 0 }

var readers = sync.Pool{New: func() any { return new(reader) }} //nolint:gochecknoglobals // a pool is shared by nature

func newReader(input []byte) *reader {
	r := readers.Get().(*reader) //nolint:forcetypeassert // holds nothing else
	r.source = *bytes.NewBuffer(input)
	r.dec.Reset(&r.source)
	return r
}

// release gives the reader back; the arena stays with the submission.
func (r *reader) release() {
	r.source = bytes.Buffer{}
	r.dec.Reset(&r.source)
	r.arena = nil
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

// boolean reads true or false.
func (r *reader) boolean() (bool, *fault) {
	switch r.next() {
	case jsontext.KindTrue, jsontext.KindFalse, jsontext.KindInvalid:
	default:
		return false, malformed("expected true or false")
	}
	v, err := r.dec.ReadValue()
	if err != nil {
		return false, syntaxFault(err)
	}
	return v[0] == 't', nil
}

// number reads an unsigned 64-bit JSON number.
func (r *reader) number() (uint64, *fault) {
	const expected = "expected an unsigned 64-bit number"
	v, f := r.scalar(jsontext.KindNumber, expected)
	if f != nil {
		return 0, f
	}
	n, ok := digits(v, 10)
	if !ok {
		return 0, malformed(expected)
	}
	return n, nil
}

// quantity reads a number as Ethereum writes it: hex in a string, "0x" being zero; as FlowProxy
// does, also decimal in a string and a plain number.
func (r *reader) quantity() (uint64, *fault) {
	const expected = "expected a hex quantity"
	if r.next() == jsontext.KindNumber {
		return r.number()
	}
	v, f := r.text(expected)
	if f != nil {
		return 0, f
	}
	base := uint64(10)
	if len(v) >= 2 && v[0] == '0' && (v[1] == 'x' || v[1] == 'X') {
		if v, base = v[2:], 16; len(v) == 0 {
			return 0, nil
		}
	}
	n, ok := digits(v, base)
	if !ok {
		return 0, malformed(expected)
	}
	return n, nil
}

// digits parses an unsigned number of at least one digit; ok is false on anything else.
func digits(v []byte, base uint64) (n uint64, ok bool) {
	for _, c := range v {
		d := uint64(digitOf[c])
		if d >= base || n > (math.MaxUint64-d)/base {
			return 0, false
		}
		n = n*base + d
	}
	return n, len(v) > 0
}

// digitOf maps a byte to the value of the hex digit that it is, else to 255.
var digitOf = func() (t [256]byte) { //nolint:gochecknoglobals // a constant table
	for i := range t {
		t[i] = math.MaxUint8
	}
	for i := range byte(10) {
		t['0'+i] = i
	}
	for i := range byte(6) {
		t['a'+i], t['A'+i] = 10+i, 10+i
	}
	return t
}()

// bytes reads hex (the prefix 0x is optional) or, as Rust's clients may send, an array of byte
// values, into the arena.
func (r *reader) bytes() ([]byte, *fault) {
	if r.next() == jsontext.KindBeginArray {
		return r.byteValues()
	}
	return r.hex("expected a hex string")
}

func (r *reader) hex(expected string) ([]byte, *fault) {
	v, f := r.text(expected)
	if f != nil {
		return nil, f
	}
	if len(v) >= 2 && v[0] == '0' && v[1] == 'x' {
		v = v[2:]
	}
	start, n := len(r.arena), len(v)/2
	if len(v)%2 != 0 || start+n > cap(r.arena) {
		return nil, malformed(expected)
	}
	r.arena = r.arena[:start+n]
	out := r.arena[start : start+n : start+n]
	if _, err := hex.Decode(out, v); err != nil {
		return nil, malformed(expected)
	}
	return out, nil
}

func (r *reader) byteValues() ([]byte, *fault) {
	start := len(r.arena)
	f := r.array(func(int) *fault {
		n, f := r.number()
		if f != nil {
			return f
		}
		if n > math.MaxUint8 {
			return malformed("expected a byte")
		}
		r.arena = append(r.arena, byte(n))
		return nil
	})
	if f != nil {
		return nil, f
	}
	return r.arena[start:len(r.arena):len(r.arena)], nil
}

// hash reads 32 bytes into the arena.
func (r *reader) hash() ([]byte, *fault) {
	const expected = "expected a 32-byte hex hash"
	v, f := r.hex(expected)
	if f == nil && len(v) != common.HashLength {
		f = malformed(expected)
	}
	return v, f
}

// hashes reads an array of hashes, which lie behind each other in the arena.
func (r *reader) hashes() ([]byte, *fault) {
	start := len(r.arena)
	f := r.array(func(int) *fault {
		_, f := r.hash()
		return f
	})
	return r.arena[start:len(r.arena):len(r.arena)], f
}

func (r *reader) address() (a common.Address, f *fault) {
	const expected = "expected a 20-byte hex address"
	v, f := r.hex(expected)
	if f != nil {
		return a, f
	}
	if copy(a[:], v) != len(v) || len(v) != len(a) {
		return a, malformed(expected)
	}
	return a, nil
}

// uuid reads a UUID: hyphenated, or as one run of 32 digits, or either of them in braces or behind
// "urn:uuid:".
func (r *reader) uuid() (u UUID, f *fault) {
	const expected = "expected a UUID"
	v, f := r.text(expected)
	if f != nil {
		return u, f
	}
	u, ok := parseUUID(v)
	if !ok {
		return u, malformed(expected)
	}
	if u.IsZero() {
		return u, malformed("must not be the nil UUID")
	}
	return u, nil
}

func parseUUID(v []byte) (u UUID, ok bool) {
	switch {
	case len(v) > 2 && v[0] == '{' && v[len(v)-1] == '}':
		v = v[1 : len(v)-1]
	case bytes.HasPrefix(v, []byte("urn:uuid:")):
		v = v[len("urn:uuid:"):]
	}
	var plain [2 * len(u)]byte
	switch {
	case len(v) == len(plain):
		copy(plain[:], v)
	case len(v) == 36 && v[8] == '-' && v[13] == '-' && v[18] == '-' && v[23] == '-':
		n := copy(plain[:], v[:8])
		n += copy(plain[n:], v[9:13])
		n += copy(plain[n:], v[14:18])
		n += copy(plain[n:], v[19:23])
		copy(plain[n:], v[24:])
	default:
		return u, false
	}
	_, err := hex.Decode(u[:], plain[:])
	return u, err == nil
}
