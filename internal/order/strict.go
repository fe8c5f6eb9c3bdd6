package order

import (
	"encoding/hex"
	"slices"
	"strconv"

	"github.com/ethereum/go-ethereum/common"
)

// Strict reports whether all that s has is written as the first proxy reads it: hex with its prefix, quantities
// without leading zeros, replacementUuid without uuid beside it. FlowProxy is more lenient, and so is Decode. A
// mev_sendBundle is taken for strict.
func (s *Submission) Strict() bool { return s.bundle == nil || !s.lenient }

// AppendStrictBody is AppendBuilderBody for a node that takes strict forms only: a bundle's known members are written
// anew.
func (s *Submission) AppendStrictBody(dst []byte, o *Order) ([]byte, error) {
	if s.Strict() {
		return s.AppendBuilderBody(dst, o)
	}
	if o.Method != s.Method {
		return dst, ErrOtherOrder
	}
	dst = append(dst, `{"id":1,"jsonrpc":"2.0","method":"`...)
	dst = append(dst, s.Method.Upstream().String()...)
	dst = append(dst, `","params":[{"txs":[`...)
	for i, tx := range s.Txs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendHex(dst, tx)
	}
	dst = s.bundle.appendStrict(append(dst, `],`...))
	if !s.Replacement.IsZero() {
		text := s.Replacement.text()
		dst = append(dst, `"replacementUuid":"`...)
		dst = append(append(dst, text[:]...), `",`...)
	}
	for _, m := range s.unknown {
		dst = append(append(dst, s.Params[m.start:m.end]...), ',')
	}
	return append(s.appendSplice(dst, o), `}]}`...), nil
}

// appendStrict appends the sender's members other than transactions and replacement, each with a comma behind it.
func (b *bundle) appendStrict(dst []byte) []byte {
	number := func(f fields, name string, n uint64) {
		if b.hasAny(f) {
			dst = append(append(append(dst, '"'), name...), `":`...)
			dst = append(strconv.AppendUint(dst, n, 10), ',')
		}
	}
	list := func(name string, hashes []byte) {
		if len(hashes) == 0 {
			return
		}
		dst = append(append(append(dst, '"'), name...), `":[`...)
		for h := range slices.Chunk(hashes, common.HashLength) {
			dst = append(appendHex(dst, h), ',')
		}
		dst = append(dst[:len(dst)-1], `],`...)
	}
	address := func(f fields, name string, a common.Address) {
		if b.hasAny(f) {
			dst = append(append(append(dst, '"'), name...), `":`...)
			dst = append(appendAddress(dst, a), ',')
		}
	}
	if b.hasAny(hasBlock) {
		dst = append(dst, `"blockNumber":"0x`...)
		dst = append(strconv.AppendUint(dst, b.block, 16), `",`...)
	}
	number(hasMinTimestamp, "minTimestamp", b.minTimestamp)
	number(hasMaxTimestamp, "maxTimestamp", b.maxTimestamp)
	list("revertingTxHashes", b.reverting)
	list("droppingTxHashes", b.dropping)
	number(hasRefundPercent, "refundPercent", b.refundPercent)
	address(hasRefundRecipient, "refundRecipient", b.refundRecipient)
	list("refundTxHashes", b.refundTxs)
	address(hasRefundIdentity, "refundIdentity", b.refundFrom)
	if b.hasAny(hasDelayed) {
		dst = append(dst, `"delayedRefund":`...)
		dst = append(strconv.AppendBool(dst, b.delayed), ',')
	}
	return dst
}

func appendHex(dst, v []byte) []byte {
	dst = append(dst, `"0x`...)
	return append(hex.AppendEncode(dst, v), '"')
}
