package engineapi

import (
	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"
)

// Built is a view of the answer to getPayloadVn.
type Built struct {
	Hash         common.Hash
	Number       uint64
	GasUsed      uint64
	Transactions int
	Value        uint256.Int // blockValue, wei; zero in V1, which has none
}

// BuiltPayload reads the answer to getPayloadVn: a bare payload in V1, one in an envelope later.
func BuiltPayload(answer []byte) (b Built, ok bool) {
	payload := ResultOf(answer)
	w := walkOver(payload, '{')
	for w.next() {
		switch string(w.key) {
		case `"executionPayload"`:
			payload = w.value
		case `"blockValue"`:
			if text, ok := unquote(w.value); ok {
				// What is no quantity counts as no value.
				_ = b.Value.SetFromHex(string(text))
			}
		}
	}
	ok = fields(payload, []field{
		{"blockHash", hashInto(&b.Hash), false},
		{"blockNumber", quantityInto(&b.Number), false},
		{"gasUsed", quantityInto(&b.GasUsed), false},
		{"transactions", func(raw []byte) bool {
			list := walkOver(raw, '[')
			for list.next() {
				b.Transactions++
			}
			return !list.bad
		}, false},
	})
	return b, ok && !w.bad
}

// PayloadID is the id that a getPayloadVn call asks for; empty for anything else.
func (c Call) PayloadID() string {
	if c.Class() != ClassPayload {
		return ""
	}
	id, ok := unquote(c.Param(0))
	if !ok || len(id) > maxPayloadID {
		return ""
	}
	return string(id)
}
