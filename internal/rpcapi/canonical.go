package rpcapi

import (
	"bytes"
	"encoding/hex"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// Life is how long an answer stays true.
type Life uint8

// Lives. The zero Life is of an answer that may not be shared: it changes at any moment, or what was asked is not
// understood.
const (
	// LifeForEver: the block can't change any more, or there is none.
	LifeForEver Life = iota + 1
	// LifeHead: until there is another head.
	LifeHead
	// LifeByAnswer: the answer says the block; see [Life.Judge].
	LifeByAnswer
)

// Bounds of parameters that are worth understanding.
const (
	maxCanonical = 1 << 20 // bytes
	maxParams    = 8
	maxDepth     = 32
	maxKept      = 64 << 10 // bytes of a buffer that waits to be used again
)

// scratch is what canonical parameters are made from: a copy in lower case.
type scratch struct{ params []byte }

var scratches = sync.Pool{New: func() any { return new(scratch) }} //nolint:gochecknoglobals // a pool is shared by nature

// release gives s back, but for one that has grown large.
func (s *scratch) release() {
	if cap(s.params) <= maxKept {
		scratches.Put(s)
	}
}

// Canonical appends to dst what is the same for all parameters that ask the same, and says how long an answer to them
// stays true with the chain as head tells it. White space, the order of members, the case of hexadecimal digits, input
// called data, the ways to name a block, and a block that is left out: none makes a difference. Members that nobody
// here knows, overrides among them, are kept whole. With a zero Life nothing is appended.
//
// What is appended is no JSON, and means nothing without the method.
func (m Method) Canonical(dst, params []byte, head *Head) ([]byte, Life) {
	if m.Safety != Read || m.Cache == CacheNever || m.Cache == 0 || len(params) > maxCanonical {
		return dst, 0
	}
	var all [maxParams][]byte
	if len(params) == 0 || string(params) == "[]" { // what is asked most needs no reading
		return m.canonical(dst, &all, 0, head)
	}
	s := scratches.Get().(*scratch) //nolint:forcetypeassert // holds nothing else
	defer s.release()
	var ok bool
	if s.params, ok = appendLower(s.params[:0], params); !ok {
		return dst, 0
	}
	n, ok := split(&all, s.params)
	if !ok {
		return dst, 0
	}
	return m.canonical(dst, &all, n, head)
}

// canonical is Canonical of the first n parameters, in lower case.
func (m Method) canonical(dst []byte, all *[maxParams][]byte, n int, head *Head) ([]byte, Life) {
	said, n, ok := m.locate(all, n)
	if !ok {
		return dst, 0
	}
	life := m.life(said, head)
	if life == 0 {
		return dst, 0
	}
	out := dst
	for i, v := range all[:n] {
		switch {
		case m.place.kind == placeBlock && i == int(m.place.index):
			out = said.appendTo(out)
		case i == 0 && m.object == objectCall && v[0] == '{':
			out, ok = appendCall(out, v)
		default:
			out, ok = appendOrdered(out, v)
		}
		if !ok {
			return dst, 0
		}
		out = append(out, '\n') // stands in no value that has been made canonical
	}
	return out, life
}

// locate reads the block that the first n parameters name, and counts it among them where it was left out.
func (m Method) locate(all *[maxParams][]byte, n int) (reading, int, bool) {
	i := int(m.place.index)
	switch m.place.kind {
	case placeImplied, placeNowhere:
		return reading{block: Block{Kind: BlockLatest}}, n, true
	case placeBlock:
		if i == n && n < maxParams {
			n++
		}
	default:
	}
	if i >= n {
		return reading{}, n, false
	}
	said := m.place.read(all[i])
	return said, n, said.block.Kind != 0
}

// life judges what was said about the block.
func (m Method) life(said reading, head *Head) Life {
	switch m.Cache {
	case CacheConstant:
		return LifeForEver
	case CacheByAnswer:
		return LifeByAnswer
	default:
	}
	life := said.block.life(head)
	if life == 0 || m.place.kind != placeRange {
		if said.canonical {
			return LifeHead
		}
		return life
	}
	from := said.from.life(head)
	if from == 0 {
		return 0
	}
	return max(life, from)
}

func (b Block) life(head *Head) Life {
	switch b.Kind {
	case BlockHash, BlockEarliest:
		return LifeForEver
	case BlockNumber:
		if b.Number <= head.Finalized {
			return LifeForEver
		}
		return LifeHead
	case BlockLatest, BlockSafe, BlockFinalized:
		return LifeHead
	default:
		return 0
	}
}

// Judge is the life of a result, which is JSON, once it is there. An empty list is what a node says, too, that does
// not have old blocks: it is not kept for ever. Zero: the result is of no block yet.
func (l Life) Judge(result []byte, head *Head) Life {
	switch {
	case isNull(result):
		return 0
	case l == LifeForEver && bytes.Equal(result, []byte("[]")):
		return LifeHead
	case l != LifeByAnswer:
		return l
	case result[0] != '{':
		return LifeHead
	}
	var number []byte
	if !eachMember(result, func(name string, value []byte) bool {
		return name != "blockNumber" || setOnce(&number, value)
	}) {
		return 0
	}
	if number == nil {
		return LifeHead // it is of a transaction, and does not say of which block: a trace
	}
	return readNumber(number).life(head)
}

// appendTo writes the block in the one way that it is written in keys.
func (r reading) appendTo(dst []byte) []byte {
	switch r.block.Kind {
	case BlockNumber:
		return strconv.AppendUint(append(dst, '#'), r.block.Number, 16)
	case BlockHash:
		if r.canonical {
			dst = append(dst, '!')
		}
		return hex.AppendEncode(dst, r.block.Hash[:])
	default:
		return append(dst, 'a'+byte(r.block.Kind))
	}
}

// appendLower copies params with their hexadecimal strings in lower case. False: there are escapes in it, behind which
// two names could be one, or it is nested too deep.
func appendLower(dst, params []byte) ([]byte, bool) {
	if bytes.IndexByte(params, '\\') >= 0 {
		return dst, false
	}
	dst = append(dst, params...)
	depth := 0
	for i := 0; i < len(dst); i++ {
		switch dst[i] {
		case '[', '{':
			if depth++; depth > maxDepth {
				return dst, false
			}
		case ']', '}':
			depth--
		case '"':
			end := bytes.IndexByte(dst[i+1:], '"')
			if end < 0 {
				return dst, false
			}
			lower(dst[i+1 : i+1+end])
			i += end + 1
		}
	}
	return dst, true
}

// lower changes s if it is hexadecimal throughout.
func lower(s []byte) {
	if len(s) < 3 || s[0] != '0' || s[1] != 'x' {
		return
	}
	upper := false
	for _, c := range s[2:] {
		if c >= 'A' && c <= 'F' {
			upper = true
		} else if _, ok := nibble(c); !ok {
			return
		}
	}
	if !upper {
		return
	}
	for i, c := range s {
		if c >= 'A' && c <= 'F' {
			s[i] = c | 0x20
		}
	}
}

// split cuts a list of parameters; those that are null at its end are as good as not there.
func split(all *[maxParams][]byte, params []byte) (n int, ok bool) {
	r := read(params)
	defer r.release()
	switch r.dec.PeekKind() {
	case jsontext.KindInvalid:
		return 0, len(bytes.TrimSpace(params)) == 0
	case jsontext.KindNull:
		return 0, true
	default:
	}
	if !r.open(jsontext.KindBeginArray) {
		return 0, false
	}
	for r.more() {
		v := r.value()
		if v == nil || n == maxParams {
			return 0, false
		}
		all[n] = v
		n++
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return 0, false
	}
	for n > 0 && isNull(all[n-1]) {
		n--
	}
	clear(all[n:])
	return n, true
}
