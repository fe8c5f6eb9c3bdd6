package feed

import (
	"bytes"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// header is a block as clients of newHeads see it.
type header struct {
	number       uint64
	hash, parent common.Hash
	bloom        *types.Bloom // nil: not known
	raw          []byte
}

// decodeHeader reads a header, or a block without its transactions' bodies. raw is without what a block has beyond
// its header, so that clients can't tell an announced header from a fetched one.
func decodeHeader(raw []byte) (*header, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.ReadToken(); err != nil || t.Kind() != jsontext.KindBeginObject {
		return nil, fmt.Errorf("header: %w", errMalformed)
	}
	h, missing := &header{raw: append(make([]byte, 0, len(raw)), '{')}, 3
	for dec.PeekKind() == jsontext.KindString {
		name, err := dec.ReadValue()
		if err != nil {
			return nil, fmt.Errorf("header: %w: %w", errMalformed, err)
		}
		name = bytes.Clone(name)
		value, err := dec.ReadValue()
		if err != nil {
			return nil, fmt.Errorf("header: %w: %w", errMalformed, err)
		}
		known, err := h.set(string(name[1:len(name)-1]), value)
		if err != nil {
			return nil, fmt.Errorf("header: %w: %w", errMalformed, err)
		}
		missing -= known
		h.keep(name, value)
	}
	if t, err := dec.ReadToken(); err != nil || t.Kind() != jsontext.KindEndObject || missing != 0 {
		return nil, fmt.Errorf("header: %w", errMalformed)
	}
	h.raw = append(h.raw, '}')
	return h, nil
}

// set reads one member; known is one if a header can't do without it.
func (h *header) set(name string, value []byte) (known int, err error) {
	switch name {
	case "number":
		var n hexutil.Uint64
		err = json.Unmarshal(value, &n)
		h.number = uint64(n)
		return 1, err
	case "hash":
		return 1, json.Unmarshal(value, &h.hash)
	case "parentHash":
		return 1, json.Unmarshal(value, &h.parent)
	case "logsBloom":
		if jsontext.Value(value).Kind() == jsontext.KindString {
			h.bloom = new(types.Bloom)
			return 0, json.Unmarshal(value, h.bloom)
		}
	}
	return 0, nil
}

// keep appends a member to raw, unless only blocks have it.
func (h *header) keep(name, value []byte) {
	switch string(name) {
	case `"transactions"`, `"uncles"`, `"withdrawals"`, `"size"`, `"totalDifficulty"`:
		return
	}
	if len(h.raw) > 1 {
		h.raw = append(h.raw, ',')
	}
	h.raw = append(append(append(h.raw, name...), ':'), value...)
}
