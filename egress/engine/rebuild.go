package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/egress/engine/chain"
	"millrace/internal/engineapi"
)

var (
	// errRequests: a block has execution requests. Nobody gives them back: a header has their hash alone.
	errRequests = errors.New("a block has execution requests, which no client gives back")
	errPartial  = errors.New("the primary's answer about a block is not whole")
)

// header is a block's as eth_getBlockByHash has it. What goes into a payload as it is stays raw.
type header struct {
	Hash       common.Hash    `json:"hash"`
	Parent     common.Hash    `json:"parentHash"`
	Number     hexutil.Uint64 `json:"number"`
	Timestamp  hexutil.Uint64 `json:"timestamp"`
	Miner      jsontext.Value `json:"miner"`
	StateRoot  jsontext.Value `json:"stateRoot"`
	Receipts   jsontext.Value `json:"receiptsRoot"`
	Bloom      jsontext.Value `json:"logsBloom"`
	Mix        jsontext.Value `json:"mixHash"`
	GasLimit   jsontext.Value `json:"gasLimit"`
	GasUsed    jsontext.Value `json:"gasUsed"`
	Extra      jsontext.Value `json:"extraData"`
	BaseFee    jsontext.Value `json:"baseFeePerGas"`
	BlobGas    jsontext.Value `json:"blobGasUsed"`
	ExcessBlob jsontext.Value `json:"excessBlobGas"`
	Slot       jsontext.Value `json:"slotNumber"`

	// What tells the forks apart: each is there from its fork on.
	Withdrawals *common.Hash `json:"withdrawalsRoot"`
	BeaconRoot  *common.Hash `json:"parentBeaconBlockRoot"`
	Requests    *common.Hash `json:"requestsHash"`
	AccessList  *common.Hash `json:"blockAccessListHash"`
}

// blockBody is what engine_getPayloadBodiesByHash has of a block.
type blockBody struct {
	Transactions []string       `json:"transactions"`
	Withdrawals  jsontext.Value `json:"withdrawals"`
	AccessList   jsontext.Value `json:"blockAccessList"`
}

// rebuiltPayload is an execution payload, in the specification's order.
type rebuiltPayload struct {
	Parent       common.Hash    `json:"parentHash"`
	Miner        jsontext.Value `json:"feeRecipient"`
	StateRoot    jsontext.Value `json:"stateRoot"`
	Receipts     jsontext.Value `json:"receiptsRoot"`
	Bloom        jsontext.Value `json:"logsBloom"`
	Mix          jsontext.Value `json:"prevRandao"`
	Number       hexutil.Uint64 `json:"blockNumber"`
	GasLimit     jsontext.Value `json:"gasLimit"`
	GasUsed      jsontext.Value `json:"gasUsed"`
	Timestamp    hexutil.Uint64 `json:"timestamp"`
	Extra        jsontext.Value `json:"extraData"`
	BaseFee      jsontext.Value `json:"baseFeePerGas"`
	Hash         common.Hash    `json:"blockHash"`
	Transactions []string       `json:"transactions"`
	Withdrawals  jsontext.Value `json:"withdrawals,omitzero"`
	BlobGas      jsontext.Value `json:"blobGasUsed,omitzero"`
	ExcessBlob   jsontext.Value `json:"excessBlobGas,omitzero"`
	AccessList   jsontext.Value `json:"blockAccessList,omitzero"`
	Slot         jsontext.Value `json:"slotNumber,omitzero"`
}

// readHeader reads the result of eth_getBlockByHash.
func readHeader(raw []byte) (*header, error) {
	var h *header
	if err := json.Unmarshal(raw, &h); err != nil || h == nil {
		return nil, errPartial
	}
	return h, nil
}

// readBodies reads the result of engine_getPayloadBodiesByHash for so many blocks: all of them, or none.
func readBodies(raw []byte, count int) ([]*blockBody, error) {
	var all []*blockBody
	if err := json.Unmarshal(raw, &all); err != nil || len(all) != count || slices.Contains(all, nil) {
		return nil, fmt.Errorf("bodies: %w", errPartial)
	}
	return all, nil
}

// version is that of the newPayload which takes the block: each fork brought a field of its own.
func (h *header) version() int {
	switch {
	case h.AccessList != nil:
		return 5
	case h.Requests != nil:
		return 4
	case h.BeaconRoot != nil:
		return 3
	case h.Withdrawals != nil:
		return 2
	}
	return 1
}

// lacksRequests says whether the block has execution requests, which can't be had.
func (h *header) lacksRequests() bool {
	return h.Requests != nil && *h.Requests != types.EmptyRequestsHash
}

// rebuild is the step and the newPayload call that give a client the block. What the primary said need not be
// true: the client computes the hash of it, and that is named by a recorded call.
func rebuild(id uint64, h *header, b *blockBody) (chain.Step, []byte, error) {
	step := chain.Step{Kind: chain.Payload, Head: h.Hash, Number: uint64(h.Number)}
	version := h.version()
	if h.lacksRequests() {
		return step, nil, errRequests
	}
	p := rebuiltPayload{
		Parent: h.Parent, Miner: h.Miner, StateRoot: h.StateRoot, Receipts: h.Receipts, Bloom: h.Bloom, Mix: h.Mix, Number: h.Number,
		GasLimit: h.GasLimit, GasUsed: h.GasUsed, Timestamp: h.Timestamp, Extra: h.Extra, BaseFee: h.BaseFee, Hash: h.Hash,
		Transactions: b.Transactions,
	}
	// A member that is not there would make another payload with another hash, and the client would be blamed.
	needed := []jsontext.Value{h.Miner, h.StateRoot, h.Receipts, h.Bloom, h.Mix, h.GasLimit, h.GasUsed, h.Extra, h.BaseFee}
	if version >= 2 {
		p.Withdrawals = b.Withdrawals
		needed = append(needed, b.Withdrawals)
	}
	if version >= 3 {
		p.BlobGas, p.ExcessBlob = h.BlobGas, h.ExcessBlob
		needed = append(needed, h.BlobGas, h.ExcessBlob)
	}
	if version >= 5 {
		p.AccessList, p.Slot = b.AccessList, h.Slot
		needed = append(needed, b.AccessList, h.Slot)
	}
	for _, v := range needed {
		if k := v.Kind(); k == jsontext.KindInvalid || k == jsontext.KindNull {
			return step, nil, fmt.Errorf("block %d: %w", h.Number, errPartial)
		}
	}
	params := []any{p}
	if version >= 3 {
		hashes, err := blobHashes(b.Transactions)
		if err != nil {
			return step, nil, fmt.Errorf("block %d: %w", h.Number, err)
		}
		params = append(params, hashes, h.BeaconRoot)
	}
	if version >= 4 {
		params = append(params, []string{}) // the execution requests: none
	}
	method := fmt.Sprintf("engine_newPayloadV%d", version)
	body, err := json.Marshal(struct {
		Version string `json:"jsonrpc"`
		ID      uint64 `json:"id"`
		Method  string `json:"method"`
		Params  []any  `json:"params"`
	}{"2.0", id, method, params})
	step.Call = chain.Call{
		Class: engineapi.ClassReplay, Method: method,
		Payload: engineapi.Payload{Hash: h.Hash, Parent: h.Parent, Number: uint64(h.Number), Timestamp: uint64(h.Timestamp)},
	}
	return step, body, err
}

// blobHashes are the versioned hashes of a block's blobs, in the order of its transactions.
func blobHashes(transactions []string) ([]common.Hash, error) {
	hashes := []common.Hash{}
	for _, text := range transactions {
		if !strings.HasPrefix(text, "0x03") { // the type with blobs, without the blobs themselves in a block
			continue
		}
		raw, err := hexutil.Decode(text)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errPartial, err)
		}
		var tx types.Transaction
		if err := tx.UnmarshalBinary(raw); err != nil {
			return nil, fmt.Errorf("%w: %w", errPartial, err)
		}
		hashes = append(hashes, tx.BlobHashes()...)
	}
	return hashes, nil
}
