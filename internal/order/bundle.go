package order

import (
	"bytes"
	"slices"

	"github.com/ethereum/go-ethereum/common"
)

// fields is the set of optional members that an eth_sendBundle object has.
type fields uint16

const (
	hasBlock fields = 1 << iota
	hasMinTimestamp
	hasMaxTimestamp
	hasUUID
	hasReplacement
	hasNonce
	hasRefundPercent
	hasRefundRecipient
	hasRefundTxs
	hasRefundIdentity
	hasDelayed
	hasVersion
)

// Versions of eth_sendBundle; v1 knows fewer fields.
const (
	versionV1 = "v1"
	versionV2 = "v2"
)

// bundle is an eth_sendBundle object. Lists of hashes lie behind each other, 32 bytes each.
type bundle struct {
	has                         fields
	block                       uint64
	minTimestamp, maxTimestamp  uint64
	reverting, dropping         []byte
	refundTxs                   []byte
	uuid, replacement           UUID
	nonce                       uint64
	refundPercent               uint64
	refundRecipient, refundFrom common.Address
	delayed                     bool
	version                     string // the sender's, or v2

	spans [spliced]span
}

// The members of Params that the builder may get from us; see bundle.finish.
const (
	spliceSigningAddress = iota
	spliceBundleHash
	spliceVersion
	spliceNonce
	spliceReplacement
	spliced
)

func (b *bundle) hasAny(f fields) bool { return b.has&f != 0 }

// key is the UUID that counts: uuid wins.
func (b *bundle) key() UUID {
	if b.hasAny(hasUUID) {
		return b.uuid
	}
	return b.replacement
}

func (d *decoder) decodeBundle() *fault {
	d.s.Kind = KindBundle
	b := &bundle{version: versionV2}
	d.s.bundle = b
	f := d.members(func(name []byte, start int) (bool, *fault) {
		if ok, f := d.bundleMember(b, name, start); ok || f != nil {
			return ok, f
		}
		return d.refundMember(b, name)
	})
	if f != nil {
		return f
	}
	return d.finishBundle(b)
}

// bundleMember reads one member of an eth_sendBundle object other than a refund's. null is the same
// as absent.
func (d *decoder) bundleMember(b *bundle, name []byte, start int) (bool, *fault) {
	switch string(name) {
	case "txs":
		return true, d.optional(func() *fault { return d.array(func(int) *fault { return d.transaction() }) }).in("txs")
	case "blockNumber":
		return true, optional(d, b, hasBlock, &b.block, d.quantity).in("blockNumber")
	case "minTimestamp":
		return true, optional(d, b, hasMinTimestamp, &b.minTimestamp, d.number).in("minTimestamp")
	case "maxTimestamp":
		return true, optional(d, b, hasMaxTimestamp, &b.maxTimestamp, d.number).in("maxTimestamp")
	case "revertingTxHashes":
		return true, optional(d, b, 0, &b.reverting, d.hashes).in("revertingTxHashes")
	case "droppingTxHashes":
		return true, optional(d, b, 0, &b.dropping, d.hashes).in("droppingTxHashes")
	case "uuid":
		return true, optional(d, b, hasUUID, &b.uuid, d.reader.uuid).in("uuid")
	case "replacementUuid":
		f := optional(d, b, hasReplacement, &b.replacement, d.reader.uuid).in("replacementUuid")
		b.spans[spliceReplacement] = d.member(start)
		return true, f
	case "replacementNonce":
		f := optional(d, b, hasNonce, &b.nonce, d.number).in("replacementNonce")
		b.spans[spliceNonce] = d.member(start)
		return true, f
	case "version":
		return true, d.versionMember(b, start).in("version")
	case "signingAddress":
		return true, d.signingAddress(&b.spans[spliceSigningAddress], start)
	case "bundleHash":
		return true, d.overwritten(&b.spans[spliceBundleHash], start)
	}
	return false, nil
}

func (d *decoder) refundMember(b *bundle, name []byte) (bool, *fault) {
	switch string(name) {
	case "refundPercent":
		return true, optional(d, b, hasRefundPercent, &b.refundPercent, d.number).in("refundPercent")
	case "refundRecipient":
		return true, optional(d, b, hasRefundRecipient, &b.refundRecipient, d.address).in("refundRecipient")
	case "refundTxHashes":
		return true, optional(d, b, hasRefundTxs, &b.refundTxs, d.hashes).in("refundTxHashes")
	case "refundIdentity":
		return true, optional(d, b, hasRefundIdentity, &b.refundFrom, d.address).in("refundIdentity")
	case "delayedRefund":
		return true, optional(d, b, hasDelayed, &b.delayed, d.boolean).in("delayedRefund")
	}
	return false, nil
}

// optional reads a member with read unless it is null, and notes that it is there.
func optional[T any](d *decoder, b *bundle, f fields, to *T, read func() (T, *fault)) *fault {
	if d.null() {
		return nil
	}
	v, fault := read()
	if fault != nil {
		return fault
	}
	*to, b.has = v, b.has|f
	return nil
}

func (d *decoder) optional(read func() *fault) *fault {
	if d.null() {
		return nil
	}
	return read()
}

// overwritten skips a member whose value is ours to set, whatever the sender wrote.
func (d *decoder) overwritten(sp *span, start int) *fault {
	f := d.skip()
	*sp = d.member(start)
	return f
}

func (d *decoder) versionMember(b *bundle, start int) *fault {
	if d.null() {
		b.spans[spliceVersion] = d.member(start)
		return nil
	}
	v, f := d.text("expected a string")
	if f != nil {
		return f
	}
	b.spans[spliceVersion] = d.member(start)
	if len(v) > 0 {
		b.has |= hasVersion
	}
	switch string(v) {
	case "", versionV2:
		return nil
	case versionV1:
		b.version = versionV1
	default: // only a cancel may have it, see finishBundle
		b.version = string(v)
	}
	return nil
}

// finishBundle applies FlowProxy's rules between the fields, in its order, and notes what a builder
// gets from us.
func (d *decoder) finishBundle(b *bundle) *fault {
	s := d.s
	s.Replacement = b.key()
	s.TargetBlock, s.MaxTimestamp = b.block, b.maxTimestamp
	if s.Relayed != nil {
		if f := b.checkRelayed(len(s.Txs) == 0 && !s.Replacement.IsZero()); f != nil {
			return f
		}
	}
	if len(s.Txs) == 0 {
		if s.Replacement.IsZero() {
			return &fault{code: CodeEmptyBundle, text: "bundle has no transactions and no uuid to cancel"}
		}
		s.Kind = KindCancel
	} else if f := b.checkFields(); f != nil {
		return f
	}
	if len(b.refundTxs) > common.HashLength {
		return refuseFields("refundTxHashes", "no more than one refund tx hash is allowed")
	}
	if b.hasAny(hasRefundPercent) && b.refundPercent >= 100 {
		return refuseFields("refundPercent", "must be below 100")
	}
	d.splice(b)
	d.lenient = d.lenient || b.hasAny(hasUUID) // the first proxy knows it beside no other
	return nil
}

func refuseFields(name, text string) *fault {
	return (&fault{code: CodeBundleFields, text: text}).in(name)
}

// checkFields refuses an unknown version, and what the first version does not know.
func (b *bundle) checkFields() *fault {
	switch b.version {
	case versionV2:
		return nil
	case versionV1:
	default:
		return refuseFields("version", "invalid version")
	}
	const text = "not allowed in a v1 bundle"
	for _, member := range [...]struct {
		name string
		set  bool
	}{
		{"droppingTxHashes", len(b.dropping) > 0},
		{"refundPercent", b.hasAny(hasRefundPercent)},
		{"refundRecipient", b.hasAny(hasRefundRecipient)},
		{"refundTxHashes", b.hasAny(hasRefundTxs)},
		{"delayedRefund", b.hasAny(hasDelayed)},
	} {
		if member.set {
			return refuseFields(member.name, text)
		}
	}
	return nil
}

// splice decides which members the builder gets from us. Without a replacement key the sender's
// nonce means nothing and is left alone, as is a replacementUuid that no uuid overrules.
func (d *decoder) splice(b *bundle) {
	if d.s.Replacement.IsZero() {
		if sp := b.spans[spliceNonce]; !sp.empty() {
			d.s.unknown = append(d.s.unknown, sp)
			b.spans[spliceNonce] = span{}
		}
	} else if b.hasAny(hasNonce) {
		d.s.Nonce = &b.nonce
	}
	if !b.hasAny(hasUUID) {
		b.spans[spliceReplacement] = span{}
	}
	d.s.cut(b.spans[:])
}

// cut notes the members to leave out, in the order in which they are written.
func (s *Submission) cut(spans []span) {
	slices.SortFunc(spans, func(a, b span) int { return a.start - b.start })
	for len(spans) > 0 && spans[0].empty() {
		spans = spans[1:]
	}
	s.cuts = spans
}

// allReverting needs a hash per transaction, so it counts first.
func (b *bundle) allReverting(txs [][]byte) bool {
	if len(b.reverting)/common.HashLength < len(txs) {
		return false
	}
	for _, tx := range txs {
		if h := TransactionHash(tx); !containsHash(b.reverting, h) {
			return false
		}
	}
	return true
}

func containsHash(list []byte, h common.Hash) bool {
	for hash := range slices.Chunk(list, common.HashLength) {
		if bytes.Equal(hash, h[:]) {
			return true
		}
	}
	return false
}
