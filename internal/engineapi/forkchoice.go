package engineapi

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/common"
)

// Forkchoice is a view of a forkchoiceUpdatedVn call.
type Forkchoice struct {
	Head, Safe, Finalized common.Hash
	Attributes            bool // params[1] is there and not null
	Arity                 int  // number of parameters: 1, 2, or 3 from Amsterdam on
}

// Same says whether both name the same three blocks.
func (f Forkchoice) Same(o Forkchoice) bool {
	return f.Head == o.Head && f.Safe == o.Safe && f.Finalized == o.Finalized
}

// Forkchoice reads the parameters of a forkchoice call; ErrParams for anything else.
func (c Call) Forkchoice() (Forkchoice, error) {
	if c.Class() != ClassForkchoice {
		return Forkchoice{}, fmt.Errorf("forkchoice of %.64q: %w", c.Method, ErrParams)
	}
	f := Forkchoice{}
	state := []byte(nil)
	w := walkOver(c.Params, '[')
	for ; w.next(); f.Arity++ {
		switch f.Arity {
		case 0:
			state = w.value
		case 1:
			f.Attributes = !isNull(w.value)
		}
	}
	ok := !w.bad && fields(state, []field{
		{"headBlockHash", hashInto(&f.Head), false},
		{"safeBlockHash", hashInto(&f.Safe), false},
		{"finalizedBlockHash", hashInto(&f.Finalized), false},
	})
	if !ok {
		return Forkchoice{}, fmt.Errorf("forkchoice state: %w", ErrParams)
	}
	return f, nil
}

// AppendForkchoice appends a forkchoice call of our own making, without attributes: parameters from
// the second up to f.Arity (at least two) are null.
func AppendForkchoice(dst []byte, id uint64, method string, f Forkchoice) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","id":`...)
	dst = strconv.AppendUint(dst, id, 10)
	dst = append(dst, `,"method":`...)
	dst = strconv.AppendQuote(dst, method)
	dst = append(dst, `,"params":[{"headBlockHash":"`...)
	dst = append(dst, f.Head.Hex()...)
	dst = append(dst, `","safeBlockHash":"`...)
	dst = append(dst, f.Safe.Hex()...)
	dst = append(dst, `","finalizedBlockHash":"`...)
	dst = append(dst, f.Finalized.Hex()...)
	dst = append(dst, `"}`...)
	dst = append(dst, strings.Repeat(",null", min(max(f.Arity, 2), 16)-1)...)
	return append(dst, "]}"...)
}

// Payload is a view of a newPayloadVn call.
type Payload struct {
	Hash, Parent common.Hash
	Number       uint64
	Timestamp    uint64 // Unix seconds
}

// Payload reads the payload of a newPayload call; ErrParams for anything else.
func (c Call) Payload() (Payload, error) {
	if c.Class() != ClassReplay {
		return Payload{}, fmt.Errorf("payload of %.64q: %w", c.Method, ErrParams)
	}
	var p Payload
	ok := fields(c.Param(0), []field{
		{"blockHash", hashInto(&p.Hash), false},
		{"parentHash", hashInto(&p.Parent), false},
		{"blockNumber", quantityInto(&p.Number), false},
		{"timestamp", quantityInto(&p.Timestamp), false},
	})
	if !ok {
		return Payload{}, fmt.Errorf("payload: %w", ErrParams)
	}
	return p, nil
}

// field is a member that a view wants and how it is read.
type field struct {
	name string
	read func(raw []byte) bool
	seen bool
}

// fields reads every wanted member of an object, each exactly once; false otherwise.
func fields(object []byte, wanted []field) bool {
	w := walkOver(object, '{')
	for w.next() {
		key, ok := unquote(w.key)
		if !ok {
			return false
		}
		for i := range wanted {
			f := &wanted[i]
			if len(key) < len(f.name) || !bytes.EqualFold(key, []byte(f.name)) {
				continue
			}
			if f.seen || string(key) != f.name || !f.read(w.value) {
				return false
			}
			f.seen = true
		}
	}
	for i := range wanted {
		if !wanted[i].seen {
			return false
		}
	}
	return !w.bad
}

func hashInto(h *common.Hash) func([]byte) bool {
	return func(raw []byte) bool { return readHash(raw, h) }
}

func quantityInto(n *uint64) func([]byte) bool {
	return func(raw []byte) bool {
		var ok bool
		*n, ok = readQuantity(raw)
		return ok
	}
}

func readHash(raw []byte, h *common.Hash) bool {
	text, ok := unquote(raw)
	if !ok || len(text) != 66 || text[0] != '0' || text[1]|0x20 != 'x' {
		return false
	}
	_, err := hex.Decode(h[:], text[2:])
	return err == nil
}

func readQuantity(raw []byte) (uint64, bool) {
	text, ok := unquote(raw)
	if !ok || len(text) < 3 || len(text) > 18 || text[0] != '0' || text[1]|0x20 != 'x' || text[2] == '+' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(text[2:]), 16, 64)
	return n, err == nil
}
