package rpcapi

import (
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// Said is what a node's answer to one request says, as views over its bytes; what is not there is nil.
type Said struct {
	ID      []byte
	Result  []byte
	Failure []byte // the error object; a null is none
	// IDAt is where ID stands in the answer.
	IDAt int
}

// ReadAnswer reads an answer as a whole. False: it is not one JSON object with an id, and a result or an error.
func ReadAnswer(answer []byte) (said Said, ok bool) {
	r := read(answer)
	defer r.release()
	if !r.open(jsontext.KindBeginObject) {
		return Said{}, false
	}
	for r.more() {
		name, ok := text(r.value())
		if !ok {
			return Said{}, false
		}
		value := r.value()
		if value == nil || !said.set(string(name), value, int(r.dec.InputOffset())) {
			return Said{}, false
		}
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return Said{}, false
	}
	if _, err := r.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return Said{}, false
	}
	if isNull(said.Failure) {
		said.Failure = nil
	}
	return said, said.ID != nil && (said.Result != nil || said.Failure != nil)
}

// set takes a member whose value ends at end; false: it was there before.
func (s *Said) set(name string, value []byte, end int) bool {
	switch name {
	case "id":
		s.IDAt = end - len(value)
		return setOnce(&s.ID, value)
	case "result":
		return setOnce(&s.Result, value)
	case "error":
		return setOnce(&s.Failure, value)
	default:
		return true
	}
}

// WithID is the answer under another id.
func (s *Said) WithID(answer, id []byte) []byte {
	other := make([]byte, 0, len(answer)-len(s.ID)+len(id))
	other = append(other, answer[:s.IDAt]...)
	other = append(other, id...)
	return append(other, answer[s.IDAt+len(s.ID):]...)
}
