package record

import (
	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"

	"millrace/internal/engineapi"
)

// Built is what is kept of a payload that a client built.
type Built struct {
	PayloadID    string
	Hash         common.Hash
	Number       uint64
	Value        uint256.Int // wei; zero before Shanghai, whose answers have none
	GasUsed      uint64
	Transactions int
}

// ParseBuilt reads the answer to getPayloadVn for payloadID; nil when it is none.
func ParseBuilt(payloadID string, answer []byte) *Built {
	p, ok := engineapi.BuiltPayload(answer)
	if !ok {
		return nil
	}
	return &Built{
		PayloadID: payloadID, Hash: p.Hash, Number: p.Number, Value: p.Value,
		GasUsed: p.GasUsed, Transactions: p.Transactions,
	}
}
