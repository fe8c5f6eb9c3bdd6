package loadtest

import (
	"bytes"
	"encoding/hex"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
)

// RepeatHeader marks an order that the egress may have sent before.
const RepeatHeader = "X-Millrace-Repeat"

// Receipt is one order as it reached the sink.
type Receipt struct {
	At       time.Time // when the body was read
	Tag      Tag
	Tagged   bool
	Method   string
	Hash     common.Hash // bundleHash; zero for methods without one
	Signer   common.Address
	Nonce    uint64 // replacementNonce; zero: none
	Priority string // X-BuilderNet-Priority
	Repeat   bool   // carried RepeatHeader
	Status   int    // HTTP status that the sink answered; zero: no answer
	Refused  bool   // answered a JSON-RPC error
	Size     int
}

// Taken reports whether the sink answered with a success.
func (r Receipt) Taken() bool { return r.Status >= 200 && r.Status <= 299 && !r.Refused }

// scanReceipt finds what a receipt needs in a builder-ready body without decoding it: a sink that
// parsed every order would cost more than what is measured.
func scanReceipt(body []byte) Receipt {
	r := Receipt{Size: len(body)}
	r.Tag, r.Tagged = FindTag(body)
	r.Method = string(stringAfter(body, `"method"`))
	// What the proxy splices in stands at an end of the object; the sender's own transactions lie
	// between, so both are found without walking over them twice.
	if i := lastIndex(body, []byte(`"txs"`)); i > 0 && bytes.Contains(body[:i], []byte(`"bundleHash"`)) {
		body = body[:i]
	}
	decodeHex(r.Hash[:], stringAfter(body, `"bundleHash"`))
	decodeHex(r.Signer[:], stringAfter(body, `"signingAddress"`))
	r.Nonce = numberAfter(body, `"replacementNonce"`)
	return r
}

// valueAfter returns what follows the last occurrence of a key and its colon.
func valueAfter(body []byte, key string) []byte {
	i := lastIndex(body, []byte(key))
	if i < 0 {
		return nil
	}
	return bytes.TrimLeft(body[i+len(key):], " :\t\r\n")
}

// lastIndex is bytes.LastIndex, forwards: searching backwards has no vector instructions and took
// three quarters of what a receipt cost.
func lastIndex(body, key []byte) int {
	last := -1
	for at := 0; ; at = last + len(key) {
		i := bytes.Index(body[at:], key)
		if i < 0 {
			return last
		}
		last = at + i
	}
}

func stringAfter(body []byte, key string) []byte {
	v := valueAfter(body, key)
	if len(v) == 0 || v[0] != '"' {
		return nil
	}
	end := bytes.IndexByte(v[1:], '"')
	if end < 0 {
		return nil
	}
	return v[1 : 1+end]
}

func numberAfter(body []byte, key string) uint64 {
	var n uint64
	for _, c := range valueAfter(body, key) {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}

// decodeHex fills dst from 0x-prefixed hex of exactly its length, or leaves it zero.
func decodeHex(dst, src []byte) {
	s, ok := strings.CutPrefix(string(src), "0x")
	if !ok || len(s) != 2*len(dst) {
		return
	}
	if b, err := hex.DecodeString(s); err == nil {
		copy(dst, b)
	}
}
