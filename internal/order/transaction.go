package order

import (
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rlp"
)

// TransactionHash is the hash of a network-encoded transaction without decoding it: keccak over its
// bytes, or, when a blob transaction brings its sidecar, over the part without it. Bytes that are
// no transaction have a hash as well.
func TransactionHash(raw []byte) common.Hash {
	h, _ := hashTransaction(raw)
	return h
}

func hashTransaction(raw []byte) (h common.Hash, sidecar bool) {
	if inner, ok := withoutSidecar(raw); ok {
		return crypto.Keccak256Hash([]byte{types.BlobTxType}, inner), true
	}
	return crypto.Keccak256Hash(raw), false
}

// withoutSidecar returns the transaction's own list when raw is a blob transaction in its network
// form: a list that begins with a list (then come the version, since EIP-7594, and the sidecar).
func withoutSidecar(raw []byte) (inner []byte, ok bool) {
	if len(raw) == 0 || raw[0] != types.BlobTxType {
		return nil, false
	}
	content, _, err := rlp.SplitList(raw[1:])
	if err != nil {
		return nil, false
	}
	kind, _, rest, err := rlp.Split(content)
	if err != nil || kind != rlp.List {
		return nil, false
	}
	return content[:len(content)-len(rest)], true
}

// decodeRaw reads a transaction that is the parameter itself.
func (d *decoder) decodeRaw() *fault {
	start := d.valueStart()
	if f := d.transaction(); f != nil {
		return f.in("transaction")
	}
	d.s.Params = d.input[start:d.offset()]
	d.finishTransaction()
	return nil
}

// decodePrivate reads {tx, maxBlockNumber, preferences}.
func (d *decoder) decodePrivate() *fault {
	f := d.members(func(name []byte, _ int) (bool, *fault) {
		switch string(name) {
		case "tx":
			return true, d.transaction().in("tx")
		case "maxBlockNumber":
			return true, d.optionalTo(&d.s.TargetBlock, d.quantity).in("maxBlockNumber")
		}
		return false, nil
	})
	if f != nil {
		return f
	}
	if len(d.s.Txs) == 0 {
		return malformed("expected a member").in("tx")
	}
	d.finishTransaction()
	return nil
}

func (d *decoder) finishTransaction() {
	d.s.Kind = KindTransaction
	d.s.txHash, d.s.sidecar = hashTransaction(d.s.Txs[0])
}

// decodeCancel reads {replacementUuid, signingAddress}.
func (d *decoder) decodeCancel() *fault {
	d.s.Kind = KindCancel
	var address [1]span
	f := d.members(func(name []byte, start int) (bool, *fault) {
		switch string(name) {
		case "replacementUuid":
			u, f := d.uuid()
			d.s.Replacement = u
			return true, f.in("replacementUuid")
		case "signingAddress":
			return true, d.signingAddress(&address[0], start)
		}
		return false, nil
	})
	if f != nil {
		return f
	}
	if d.s.Replacement.IsZero() {
		return (&fault{code: CodeEmptyBundle, text: "expected a UUID"}).in("replacementUuid")
	}
	d.s.cut(address[:])
	return nil
}

// valueStart is the offset of the next value, behind a comma, a colon and white space.
func (d *decoder) valueStart() int {
	start := d.offset()
	for start < len(d.input) {
		switch d.input[start] {
		case ' ', '\t', '\r', '\n', ':', ',':
			start++
		default:
			return start
		}
	}
	return start
}
