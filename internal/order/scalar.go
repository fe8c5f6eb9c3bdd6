package order

import (
	"bytes"
	"encoding/hex"
	"math"

	"github.com/ethereum/go-ethereum/common"
	"github.com/go-json-experiment/json/jsontext"
)

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
		r.lenient = true
		return r.number()
	}
	v, f := r.text(expected)
	if f != nil {
		return 0, f
	}
	r.lenient = r.lenient || !strictQuantity(v)
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

// strictQuantity reports whether v, if it is a quantity, is one as Ethereum's own types write it.
func strictQuantity(v []byte) bool {
	return len(v) == 3 && v[0] == '0' && v[1] == 'x' || len(v) > 3 && v[0] == '0' && v[1] == 'x' && v[2] != '0'
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
		r.lenient = true
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
	} else {
		r.lenient = true
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
