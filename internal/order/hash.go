package order

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/ethereum/go-ethereum/common"
)

// PublicHash is FlowProxy's bundle hash under the effective nonce (with version defaulted), or the
// transaction's hash, or for mev_sendBundle and eth_cancelBundle a SHA-256 id. The nonce matters
// only when there is a replacement UUID. The error is always nil today.
//
// A bundle's hash is not collision-resistant and does not cover its signer: it is an opaque name
// for senders and archives, never a key of ours.
func (s *Submission) PublicHash(nonce uint64) (common.Hash, error) {
	switch {
	case s.Kind == KindTransaction:
		return s.txHash, nil
	case s.bundle != nil:
		return s.bundle.hash(s.Txs, nonce), nil
	default:
		b := append(make([]byte, 0, 512), "millrace/public/1"...)
		b = append(b, byte(s.Method))
		b = s.appendFields(b, listsSorted)
		if !s.Replacement.IsZero() {
			b = binary.BigEndian.AppendUint64(b, nonce)
		}
		return sha256.Sum256(b), nil
	}
}

// hash feeds the bundle four times into the same state and takes eight bytes each time.
func (b *bundle) hash(txs [][]byte, nonce uint64) (h common.Hash) {
	var w wyhash
	for i := 0; i < len(h); i += 8 {
		b.feed(&w, txs, nonce)
		binary.BigEndian.PutUint64(h[i:], w.sum())
	}
	return h
}

// feed writes the fields in FlowProxy's order, each as Rust's derived Hash does.
func (b *bundle) feed(w *wyhash, txs [][]byte, nonce uint64) {
	if b.hasAny(hasBlock) {
		w.uint64(1) // a 64-bit ruint is an array of one limb
		w.uint64(b.block)
	}
	if len(txs) > 0 {
		w.uint64(uint64(len(txs)))
		for _, tx := range txs {
			w.bytes(tx)
		}
	}
	feedHashes(w, b.reverting)
	feedHashes(w, b.dropping)
	if key := b.key(); !key.IsZero() {
		text := key.text()
		w.text(text[:])
		w.uint64(nonce)
	}
	if b.hasAny(hasRefundPercent) {
		w.uint64(b.refundPercent)
	}
	if b.hasAny(hasRefundRecipient) {
		w.bytes(b.refundRecipient[:])
	}
	feedHashes(w, b.refundTxs)
	if b.hasAny(hasRefundIdentity) {
		w.bytes(b.refundFrom[:])
	}
	w.text([]byte(b.version))
	if b.hasAny(hasMinTimestamp) {
		w.uint64(b.minTimestamp)
	}
	if b.hasAny(hasMaxTimestamp) {
		w.uint64(b.maxTimestamp)
	}
	if b.hasAny(hasDelayed) {
		w.write([]byte{boolByte(b.delayed)})
	}
}

func feedHashes(w *wyhash, list []byte) {
	if len(list) == 0 {
		return
	}
	w.uint64(uint64(len(list) / common.HashLength))
	for ; len(list) > 0; list = list[common.HashLength:] {
		w.bytes(list[:common.HashLength])
	}
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}
