package export

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/go-json-experiment/json"
)

// terms are the members of an eth_sendBundle object that are columns and that the domain's view
// keeps to itself. It is read only from what order.Decode took; a test holds the two readings
// against each other.
type terms struct {
	Block           *quantity   `json:"blockNumber"`
	MinTimestamp    *uint64     `json:"minTimestamp"`
	MaxTimestamp    *uint64     `json:"maxTimestamp"`
	Reverting       []hexHash   `json:"revertingTxHashes"`
	Dropping        []hexHash   `json:"droppingTxHashes"`
	Nonce           *uint64     `json:"replacementNonce"`
	RefundPercent   *uint64     `json:"refundPercent"`
	RefundRecipient *hexAddress `json:"refundRecipient"`
	RefundTxs       []hexHash   `json:"refundTxHashes"`
	RefundIdentity  *hexAddress `json:"refundIdentity"`
	DelayedRefund   *bool       `json:"delayedRefund"`
	Version         string      `json:"version"`
}

var errTerms = errors.New("bundle can't be read")

// readTerms reads a parameter object.
func readTerms(params []byte) (terms, error) {
	var t terms
	if err := json.Unmarshal(params, &t); err != nil {
		return terms{}, fmt.Errorf("%w: %w", errTerms, err)
	}
	return t, nil
}

// quantity is a number as Ethereum writes it: hex in a string, "0x" being zero, or decimal in a
// string, or a plain number.
type quantity uint64

// UnmarshalJSON reads the quantity.
func (q *quantity) UnmarshalJSON(b []byte) error {
	text := string(b)
	if b[0] == '"' {
		if err := json.Unmarshal(b, &text); err != nil {
			return err
		}
	}
	base := 10
	if len(text) >= 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X') {
		if text, base = text[2:], 16; text == "" {
			*q = 0
			return nil
		}
	}
	n, err := strconv.ParseUint(text, base, 64)
	*q = quantity(n)
	return err
}

// hexHash and hexAddress are hex with an optional prefix.
type (
	hexHash    common.Hash
	hexAddress common.Address
)

// UnmarshalText reads the hash.
func (h *hexHash) UnmarshalText(b []byte) error { return unhex(h[:], b) }

// UnmarshalText reads the address.
func (a *hexAddress) UnmarshalText(b []byte) error { return unhex(a[:], b) }

func unhex(dst, text []byte) error {
	s := strings.TrimPrefix(string(text), "0x")
	if len(s) != 2*len(dst) {
		return errTerms
	}
	_, err := hex.Decode(dst, []byte(s))
	return err
}
