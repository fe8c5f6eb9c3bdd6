package loadtest

import (
	"encoding/hex"
	"strconv"

	"millrace/internal/order"
)

// targetBlock is far enough that no head source would call it past.
const targetBlock = "0x3b9aca00"

func openRequest(b []byte, m order.Method) []byte {
	b = append(b, `{"jsonrpc":"2.0","id":1,"method":"`...)
	b = append(b, m.String()...)
	return append(b, `","params":[`...)
}

// singleBody is a request that carries one transaction, alone or as the body of a share bundle.
func singleBody(m order.Method, tx transaction) []byte {
	b := openRequest(make([]byte, 0, len(tx.hex)+256), m)
	switch m {
	case order.MethodSendPrivateTransaction:
		b = append(b, `{"tx":"`...)
		b = append(b, tx.hex...)
		b = append(b, `","maxBlockNumber":"`+targetBlock+`"}`...)
	case order.MethodSendShareBundle:
		b = append(b, `{"version":"v0.1","inclusion":{"block":"`+targetBlock+`","maxBlock":"`+targetBlock+`"},"body":[{"tx":"`...)
		b = append(b, tx.hex...)
		b = append(b, `","canRevert":false}]}`...)
	default:
		b = append(b, '"')
		b = append(b, tx.hex...)
		b = append(b, '"')
	}
	return append(b, `]}`...)
}

// bundleBody is an eth_sendBundle request. The tag is one of the reverting hashes, where every
// proxy keeps it and where it has no effect.
func bundleBody(o *Order, txs []transaction) []byte {
	size := 512
	for _, tx := range txs {
		size += len(tx.hex) + 3 + 2*TagSize + 5
	}
	b := openRequest(make([]byte, 0, size), o.Method)
	b = append(b, `{"txs":[`...)
	for i, tx := range txs {
		b = appendString(b, i, tx.hex)
	}
	b = append(b, `],"blockNumber":"`+targetBlock+`","revertingTxHashes":[`...)
	tag := o.Tag.Bytes()
	b = appendString(b, 0, "0x"+hex.EncodeToString(tag[:]))
	if o.Shape == ShapeReverting {
		for _, tx := range txs {
			b = appendString(b, 1, tx.hash.Hex())
		}
	}
	b = append(b, ']')
	if !o.UUID.IsZero() {
		b = append(b, `,"replacementUuid":"`+o.UUID.String()+`","replacementNonce":`...)
		b = strconv.AppendUint(b, o.Nonce, 10)
	}
	return append(b, `}]}`...)
}

// cancelBody is an eth_cancelBundle request. The method has no field for a tag, so it stands in one
// of its own, which a door that keeps what it doesn't know hands on.
func cancelBody(o *Order, key order.UUID) []byte {
	b := openRequest(make([]byte, 0, 256), o.Method)
	tag := o.Tag.Bytes()
	b = append(b, `{"replacementUuid":"`+key.String()+`","tag":"0x`...)
	b = hex.AppendEncode(b, tag[:])
	return append(b, `"}]}`...)
}

func appendString(b []byte, index int, s string) []byte {
	if index > 0 {
		b = append(b, ',')
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
