package order

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/ethereum/go-ethereum/common"
)

// listOrder says how lists without a meaning in their order are encoded.
type listOrder uint8

const (
	// listsAsSent keeps the sender's order.
	listsAsSent listOrder = iota + 1
	// listsSorted undoes what v1 does to the lists, and reads a zero timestamp as none, which v1's
	// sender proxy takes it for: copies that came by different paths encode alike.
	listsSorted
)

// The domains of the two digests and of what they share.
const (
	domainID  = "millrace/id/1"
	domainKey = "millrace/key/1"
)

// Identify returns the internal id and the cross-origin key (see Order.ID, Order.Key).
//
// The id is a raw transaction's hash, or SHA-256 of its bytes when it brings a sidecar, because a
// bad sidecar must not make a good copy of the same hash look refused. Else it is SHA-256 over
// everything that the sender said: the fields in the sender's order, the raw bytes of the members
// that are unknown here, the upstream method, the signer and, with a replacement UUID, the
// effective nonce. A mev_sendBundle's covers its raw bytes.
//
// The key is a raw transaction's hash, or SHA-256 over method, signer and the fields that the bundle
// hash has, lists that v1 sorts sorted, a defaulted nonce left out. It only compares copies of
// different origins: a cancel and its repeat have one key.
func (s *Submission) Identify(signer common.Address, nonce uint64, defaulted bool) (id, key ID) {
	if s.Kind == KindTransaction {
		key = ID(s.txHash)
		if s.sidecar {
			return sha256.Sum256(s.Txs[0]), key
		}
		return key, key
	}
	txs := s.digestTxs()
	b := s.appendHead(make([]byte, 0, 1024), domainID, signer, txs)
	b = s.appendContent(b)
	if !s.Replacement.IsZero() {
		b = binary.BigEndian.AppendUint64(b, nonce)
	}
	id = sha256.Sum256(b)

	b = s.appendHead(b[:0], domainKey, signer, txs)
	b = s.appendFields(b, listsSorted)
	if !s.Replacement.IsZero() && !defaulted {
		b = binary.BigEndian.AppendUint64(b, nonce)
	}
	return id, sha256.Sum256(b)
}

// digestTxs is computed once, as both digests cover the transactions, which are most of an order.
func (s *Submission) digestTxs() (d [sha256.Size]byte) {
	h := sha256.New()
	var size [8]byte
	for _, tx := range s.Txs {
		binary.BigEndian.PutUint64(size[:], uint64(len(tx)))
		_, _ = h.Write(size[:])
		_, _ = h.Write(tx)
	}
	h.Sum(d[:0])
	return d
}

func (s *Submission) appendHead(b []byte, domain string, signer common.Address, txs [sha256.Size]byte) []byte {
	b = append(b, domain...)
	b = append(b, byte(s.Method.Upstream()))
	b = append(b, signer[:]...)
	b = append(b, s.Replacement[:]...)
	return append(b, txs[:]...)
}

// appendContent encodes all that the sender said, except for the transactions.
func (s *Submission) appendContent(b []byte) []byte {
	if s.share != nil {
		return appendSized(b, s.Params)
	}
	b = s.appendFields(b, listsAsSent)
	for _, m := range s.unknown {
		b = appendSized(b, s.Params[m.start:m.end])
	}
	return b
}

// appendFields encodes the known fields, each with a tag; absent ones are left out.
func (s *Submission) appendFields(b []byte, order listOrder) []byte {
	switch {
	case s.bundle != nil:
		return s.bundle.appendFields(b, order)
	case s.share != nil:
		return s.share.appendFields(b)
	case s.Kind == KindSubsidy:
		return binary.BigEndian.AppendUint64(b, s.TargetBlock)
	default:
		return append(b, s.Replacement[:]...)
	}
}

// Tags of the fields in the encoding; their order is fixed, so each appears at most once.
const (
	tagBlock = iota + 1
	tagReverting
	tagDropping
	tagRefundPercent
	tagRefundRecipient
	tagRefundTxs
	tagRefundIdentity
	tagVersion
	tagMinTimestamp
	tagMaxTimestamp
	tagDelayed
	tagUnknown
)

func (b *bundle) appendFields(dst []byte, order listOrder) []byte {
	number := func(f fields, tag byte, n uint64) {
		if b.hasAny(f) {
			dst = binary.BigEndian.AppendUint64(append(dst, tag), n)
		}
	}
	// A zero timestamp is the same as none to every builder, and v1 drops it.
	timestamp := func(f fields, tag byte, n uint64) {
		if n != 0 || order == listsAsSent {
			number(f, tag, n)
		}
	}
	number(hasBlock, tagBlock, b.block)
	dst = appendHashes(dst, tagReverting, b.reverting, order)
	dst = appendHashes(dst, tagDropping, b.dropping, order)
	number(hasRefundPercent, tagRefundPercent, b.refundPercent)
	if b.hasAny(hasRefundRecipient) {
		dst = append(append(dst, tagRefundRecipient), b.refundRecipient[:]...)
	}
	dst = appendHashes(dst, tagRefundTxs, b.refundTxs, listsAsSent)
	if b.hasAny(hasRefundIdentity) {
		dst = append(append(dst, tagRefundIdentity), b.refundFrom[:]...)
	}
	dst = appendSized(append(dst, tagVersion), []byte(b.version))
	timestamp(hasMinTimestamp, tagMinTimestamp, b.minTimestamp)
	timestamp(hasMaxTimestamp, tagMaxTimestamp, b.maxTimestamp)
	if b.hasAny(hasDelayed) {
		dst = append(dst, tagDelayed, boolByte(b.delayed))
	}
	return append(dst, tagUnknown)
}

// appendHashes encodes a list of hashes; an empty one is the same as none.
func appendHashes(dst []byte, tag byte, list []byte, order listOrder) []byte {
	if len(list) == 0 {
		return dst
	}
	dst = appendSized(append(dst, tag), list)
	if order == listsSorted {
		sortHashes(dst[len(dst)-len(list):])
	}
	return dst
}

// sortHashes sorts 32-byte hashes that lie behind each other.
func sortHashes(list []byte) {
	const size = common.HashLength
	hashes := make([]common.Hash, 0, len(list)/size)
	for h := range slices.Chunk(list, size) {
		hashes = append(hashes, common.Hash(h))
	}
	slices.SortFunc(hashes, func(a, b common.Hash) int { return bytes.Compare(a[:], b[:]) })
	for i := range hashes {
		copy(list[i*size:], hashes[i][:])
	}
}

// appendFields encodes a mev_sendBundle: what go-utils' unique key covers, and the refunds, without
// which two bundles may pay differently.
func (b *shareBundle) appendFields(dst []byte) []byte {
	dst = appendSized(dst, []byte(b.version))
	dst = append(dst, b.replacement[:]...)
	dst = binary.BigEndian.AppendUint64(dst, b.block)
	dst = binary.BigEndian.AppendUint64(dst, b.maxBlock)
	dst = binary.BigEndian.AppendUint64(dst, uint64(len(b.bodies)))
	for _, body := range b.bodies {
		dst = append(dst, boolByte(body.bundle != nil), boolByte(body.canRevert), byte(body.mode))
		if body.bundle != nil {
			dst = body.bundle.appendFields(dst)
		} else {
			dst = appendSized(dst, body.tx)
		}
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(len(b.refunds)))
	for _, c := range b.refunds {
		dst = binary.BigEndian.AppendUint64(dst, c.body)
		dst = binary.BigEndian.AppendUint64(dst, c.percent)
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(len(b.refundConfigs)))
	for _, c := range b.refundConfigs {
		dst = append(dst, c.address[:]...)
		dst = binary.BigEndian.AppendUint64(dst, c.percent)
	}
	return appendSized(dst, b.privacy)
}

func appendSized(dst, v []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(len(v)))
	return append(dst, v...)
}
