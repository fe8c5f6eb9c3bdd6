package rpcapi

import (
	"encoding/hex"
	"strings"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rlp"
	"github.com/go-json-experiment/json/jsontext"
)

// blobType is the type of a transaction that travels together with its blobs, which its hash does not cover.
const blobType = 0x03

// NormaliseKnown turns an answer to a transaction that was sent once more, an error which says that the node has it
// already, into the answer that the first sending would have got: the transaction's hash, under the same id. Params
// are those of the request. False, and the answer as it is: it says something else, or the hash can't be told. A nonce
// that is too low is something else: another transaction may have taken it.
func NormaliseKnown(answer, params []byte) ([]byte, bool) {
	id, message, ok := readFailure(answer)
	if !ok || !saysKnown(message) {
		return answer, false
	}
	hash, ok := hashOf(params)
	if !ok {
		return answer, false
	}
	known := make([]byte, 0, len(id)+128)
	known = append(known, `{"jsonrpc":"2.0","id":`...)
	known = append(known, id...)
	known = append(known, `,"result":"0x`...)
	known = hex.AppendEncode(known, hash)
	return append(known, `"}`...), true
}

// readFailure reads the message of an answer that is an error and nothing else.
func readFailure(answer []byte) (id []byte, message string, ok bool) {
	said, ok := ReadAnswer(answer)
	if !ok || said.Failure == nil || !isNull(said.Result) {
		return nil, "", false
	}
	var raw []byte
	ok = eachMember(said.Failure, func(name string, value []byte) bool {
		return name != "message" || setOnce(&raw, value)
	})
	if !ok || raw == nil || raw[0] != '"' {
		return nil, "", false
	}
	plain, err := jsontext.AppendUnquote(nil, raw)
	return said.ID, string(plain), err == nil
}

// saysKnown knows the texts of geth and reth, of Erigon, Nethermind and Besu, now and in former releases.
func saysKnown(message string) bool {
	message = strings.ToLower(message)
	for _, before := range []string{"already_exists: ", "internal_error: "} {
		message = strings.TrimPrefix(message, before)
	}
	for _, text := range []string{
		"already known",              // geth, reth, Erigon, Nethermind since 2026
		"alreadyknown",               // Nethermind
		"known transaction",          // Besu, old geth
		"existing tx with same hash", // Erigon
		"already imported",           // old reth
		"transaction with the same hash was already imported", // OpenEthereum
	} {
		if strings.HasPrefix(message, text) {
			return true
		}
	}
	return false
}

// hashOf is the hash of the transaction that the first parameter is.
func hashOf(params []byte) ([]byte, bool) {
	r := read(params)
	defer r.release()
	v, ok := r.param(0)
	if !ok {
		return nil, false
	}
	digits, ok := text(v)
	if !ok || len(digits) < 4 || digits[0] != '0' || digits[1] != 'x' {
		return nil, false
	}
	raw := make([]byte, hex.DecodedLen(len(digits)-2))
	if _, err := hex.Decode(raw, digits[2:]); err != nil {
		return nil, false
	}
	if raw[0] != blobType {
		return crypto.Keccak256(raw), true
	}
	content, _, err := rlp.SplitList(raw[1:])
	if err != nil {
		return nil, false
	}
	kind, _, rest, err := rlp.Split(content)
	if err != nil {
		return nil, false
	}
	if kind != rlp.List {
		return crypto.Keccak256(raw), true
	}
	return crypto.Keccak256(raw[:1], content[:len(content)-len(rest)]), true
}
