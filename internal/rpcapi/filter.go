package rpcapi

import (
	"bytes"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// tagDigits is how many hexadecimal digits name the node at the end of a filter's id.
const tagDigits = 8

const hexDigits = "0123456789abcdef"

// AppendTag appends to dst the id that a client gets for a filter which the tagged node calls id.
func AppendTag(dst, id []byte, tag Tag) []byte {
	dst = append(dst, id...)
	for shift := 4 * (tagDigits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, hexDigits[tag>>shift&0xf])
	}
	return dst
}

// SplitTag takes apart what AppendTag made. Clients that hold an id to be a number drop its leading zeros, so a node's
// id that is gone altogether was 0x0. False: no node is named.
func SplitTag(id []byte) (own []byte, tag Tag, ok bool) {
	if len(id) < tagDigits {
		return nil, 0, false
	}
	cut := len(id) - tagDigits
	n, err := strconv.ParseUint(string(id[cut:]), 16, 32)
	if err != nil || n == 0 {
		return nil, 0, false
	}
	own = id[:cut]
	switch string(own) {
	case "":
		return nil, 0, false
	case "0x":
		own = []byte("0x0")
	}
	return own, Tag(n), true
}

// TagAnswer is a node's answer to a new filter, with the node named in the id. False, and the answer as it is: it has
// no id.
func TagAnswer(answer []byte, tag Tag) ([]byte, bool) {
	at, end, ok := findResult(answer)
	if !ok || bytes.IndexByte(answer[at:end], '\\') >= 0 || end-at < 3 {
		return answer, false
	}
	tagged := make([]byte, 0, len(answer)+tagDigits)
	tagged = append(tagged, answer[:at]...)
	tagged = append(AppendTag(tagged, answer[at:end-1], tag), '"')
	return append(tagged, answer[end:]...), true
}

// findResult is where the string that an answer's result is begins and ends, quotes included.
func findResult(answer []byte) (at, end int, ok bool) {
	r := read(answer)
	defer r.release()
	if !r.find("result") || r.dec.PeekKind() != jsontext.KindString {
		return 0, 0, false
	}
	return r.extent()
}

// UntagRequest is a request on a filter as the node that has the filter understands it, and that node. False: the
// request names none, or can't be read. The request is one that was parsed: no member is there twice.
func UntagRequest(request []byte) ([]byte, Tag, bool) {
	r := read(request)
	defer r.release()
	if !r.find("params") || !r.open(jsontext.KindBeginArray) || r.dec.PeekKind() != jsontext.KindString {
		return nil, 0, false
	}
	at, end, ok := r.extent()
	if !ok {
		return nil, 0, false
	}
	id, ok := text(request[at:end])
	if !ok {
		return nil, 0, false
	}
	own, tag, ok := SplitTag(id)
	if !ok {
		return nil, 0, false
	}
	untagged := make([]byte, 0, len(request))
	untagged = append(untagged, request[:at+1]...)
	untagged = append(untagged, own...)
	return append(untagged, request[end-1:]...), tag, true
}

// find enters the next object and stops before the value of its first member of that name.
func (r *reader) find(name string) bool {
	if !r.open(jsontext.KindBeginObject) {
		return false
	}
	for r.more() {
		t, err := r.dec.ReadToken()
		if err != nil {
			return false
		}
		if t.String() == name {
			return true
		}
		if r.dec.SkipValue() != nil {
			return false
		}
	}
	return false
}

// extent reads the next value and says where it stands.
func (r *reader) extent() (at, end int, ok bool) {
	v := r.value()
	if v == nil {
		return 0, 0, false
	}
	end = int(r.dec.InputOffset())
	return end - len(v), end, true
}
