package eltest

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"millrace/internal/engineapi"
)

// built is a payload that a client is building.
type built struct {
	block     Block
	recipient string
}

// Payload is block b as the JSON of an execution payload; the fake takes these, no real client does.
func Payload(b Block) []byte {
	zero := common.Hash{}
	out, err := json.Marshal(map[string]any{
		"parentHash": b.Parent, "blockHash": b.Hash, "blockNumber": hexNumber(b.Number), "timestamp": hexNumber(b.Timestamp),
		"feeRecipient": common.Address{}, "stateRoot": b.Hash, "receiptsRoot": b.Hash, "logsBloom": "0x" + strings.Repeat("00", 256),
		"prevRandao": zero, "gasLimit": "0x1c9c380", "gasUsed": "0x0", "extraData": "0x", "baseFeePerGas": "0x7",
		"transactions": []string{}, "withdrawals": []string{}, "blobGasUsed": "0x0", "excessBlobGas": "0x0",
	})
	if err != nil {
		panic(err) // strings and numbers only
	}
	return out
}

func hexNumber(n uint64) string { return fmt.Sprintf("0x%x", n) }

// Child is a block on top of parent. Salt tells siblings apart.
func Child(parent Block, salt uint64) Block {
	b := Block{Parent: parent.Hash, Number: parent.Number + 1, Timestamp: parent.Timestamp + 12}
	b.Hash = crypto.Keccak256Hash(parent.Hash[:], fmt.Appendf(nil, "%d/%d", b.Timestamp, salt))
	return b
}

// statusJSON is PayloadStatusV1.
func statusJSON(v verdict) map[string]any {
	s := map[string]any{"status": v.status, "latestValidHash": v.valid, "validationError": nil}
	if v.text != "" {
		s["validationError"] = v.text
	}
	return s
}

func (f *Fake) newPayload(c engineapi.Call) (any, *fault) {
	p, err := c.Payload()
	if err != nil {
		return nil, &fault{engineapi.CodeInvalidParams, err.Error()}
	}
	return statusJSON(f.chain.newPayload(Block{Hash: p.Hash, Parent: p.Parent, Number: p.Number, Timestamp: p.Timestamp})), nil
}

// attributes are the payload attributes that the fake builds from.
type attributes struct {
	Timestamp  string `json:"timestamp"`
	PrevRandao string `json:"prevRandao"`
	Recipient  string `json:"suggestedFeeRecipient"`
}

func (f *Fake) forkchoice(c engineapi.Call) (any, *fault) {
	fc, err := c.Forkchoice()
	if err != nil {
		return nil, &fault{engineapi.CodeInvalidParams, err.Error()}
	}
	if fc.Arity > 2 && engineapi.Version(c.Method) < 4 {
		return nil, &fault{engineapi.CodeInvalidParams, "too many arguments, want at most 2"}
	}
	var a attributes
	if fc.Attributes {
		// geth refuses attributes of the wrong shape before it moves the head.
		if json.Unmarshal(c.Param(1), &a) != nil || a.Timestamp == "" || a.PrevRandao == "" {
			return nil, &fault{engineapi.CodeInvalidAttributes, "Invalid payload attributes"}
		}
	}
	v, fail := f.chain.forkchoice(fc)
	if fail != nil {
		return nil, fail
	}
	answer := map[string]any{"payloadStatus": statusJSON(v), "payloadId": nil}
	if fc.Attributes && v.status == engineapi.StatusValid {
		id, fail := f.build(fc.Head, a)
		if fail != nil {
			return nil, fail
		}
		answer["payloadId"] = id
	}
	return answer, nil
}

// build starts a payload. The id is the client's own: two clients give different ones.
func (f *Fake) build(parent common.Hash, a attributes) (string, *fault) {
	on, ok := f.chain.blocks[parent]
	var timestamp uint64
	if _, err := fmt.Sscanf(a.Timestamp, "0x%x", &timestamp); err != nil || !ok || timestamp <= on.Timestamp {
		return "", &fault{engineapi.CodeInvalidAttributes, "Invalid payload attributes"}
	}
	hash := crypto.Keccak256Hash(parent[:], []byte(a.Timestamp), []byte(a.PrevRandao), []byte(a.Recipient))
	sum := crypto.Keccak256([]byte(f.cfg.Name), hash[:])
	id := "0x" + hex.EncodeToString(sum[:8])
	f.building[id] = built{
		block:     Block{Hash: hash, Parent: parent, Number: on.Number + 1, Timestamp: timestamp},
		recipient: a.Recipient,
	}
	return id, nil
}

func (f *Fake) payload(c engineapi.Call) (any, *fault) {
	b, ok := f.building[c.PayloadID()]
	if !ok {
		return nil, &fault{engineapi.CodeUnknownPayload, "Unknown payload"}
	}
	payload := json.RawMessage(Payload(b.block))
	version := engineapi.Version(c.Method)
	if version == 1 {
		return payload, nil
	}
	answer := map[string]any{"executionPayload": payload, "blockValue": "0x2a"}
	if version > 2 {
		answer["blobsBundle"] = map[string][]string{"commitments": {}, "proofs": {}, "blobs": {}}
		answer["shouldOverrideBuilder"] = false
	}
	if version > 3 {
		answer["executionRequests"] = []string{}
	}
	return answer, nil
}
