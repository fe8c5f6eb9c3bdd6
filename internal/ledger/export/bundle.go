package export

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/big"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/parquet-go/parquet-go"

	"millrace/internal/jsonrpc"
	"millrace/internal/order"
)

// bundles makes rows of `bundles`: of what came in at our own doors and has that form. As in FlowProxy a
// bundle has a row when it can be read and its transactions have a sender; what became of it is in
// the ledger.
type bundles struct{ senders *senders }

// skip is why a message has no row. It is a key of the report.
type skip string

const (
	skipNone        skip = ""
	skipVoid        skip = "void"        // burns a sequence
	skipOther       skip = "other_kind"  // not of this dataset's form
	skipPeer        skip = "peer"        // of a peer; it has a receipt
	skipLocal       skip = "local"       // of our own doors; it has no receipt
	skipUndecodable skip = "undecodable" // no bundle, or a transaction that is none
)

func (b *bundles) rows(m *Message, w *writer) (skip, error) {
	o := m.Order
	switch {
	case o.Origin != "":
		return skipPeer, nil
	case o.Method != order.MethodSendBundle && o.Method != order.MethodCancelBundle:
		return skipOther, nil
	}
	s, ok := decode(o, w.limits)
	if !ok {
		return skipUndecodable, nil
	}
	var t terms
	if o.Method == order.MethodSendBundle { // the members of the other mean nothing but whose it is
		var err error
		if t, err = readTerms(s.Params); err != nil {
			return skipUndecodable, nil //nolint:nilerr // counted
		}
	}
	txs, err := b.senders.transactions(s.Txs)
	if err != nil {
		return skipUndecodable, nil //nolint:nilerr // counted
	}
	r := w.row()
	fill(r, o, s, &t, txs, w.builder)
	return skipNone, w.write()
}

// decode reads the stored request, which is a single one: of a batch only the element is stored.
func decode(o *order.Order, limits order.Limits) (*order.Submission, bool) {
	calls, _, rpcErr := jsonrpc.Parse(o.Body, 1)
	if rpcErr != nil || len(calls) != 1 || calls[0].Err != nil {
		return nil, false
	}
	s, err := order.Decode(o.Method, calls[0].Request.Params, limits)
	return s, err == nil
}

func fill(r *row, o *order.Order, s *order.Submission, t *terms, txs []transaction, builder string) {
	cancel := s.Kind == order.KindCancel
	if cancel { // FlowProxy keeps nothing of it but whose it is
		t.Block, t.MinTimestamp, t.MaxTimestamp = nil, nil, nil
		t.Reverting, t.Dropping, t.RefundTxs, t.Version = nil, nil, nil, ""
	}
	r.put(microseconds(o.ReceivedAt))
	fillTransactions(r, txs)
	block := uint64(0)
	if t.Block != nil {
		block = uint64(*t.Block)
	}
	r.put(unsigned64(block))
	maybe64(r, t.MinTimestamp)
	maybe64(r, t.MaxTimestamp)
	fillHashes(r, t.Reverting)
	fillHashes(r, t.Dropping)
	fillHashes(r, t.RefundTxs)

	r.maybe(!s.Replacement.IsZero(), parquet.FixedLenByteArrayValue(s.Replacement[:]))
	nonce := t.Nonce
	if !s.Replacement.IsZero() {
		nonce = &o.Nonce
	}
	maybe64(r, nonce)
	percent := t.RefundPercent != nil
	r.maybe(percent, unsigned8(uint8(deref(t.RefundPercent)))) //nolint:gosec // below 100, see order.Decode
	maybeAddress(r, t.RefundRecipient)
	r.maybe(t.DelayedRefund != nil, parquet.BooleanValue(deref(t.DelayedRefund)))
	maybeAddress(r, t.RefundIdentity)
	r.maybe(true, parquet.FixedLenByteArrayValue(o.Signer[:]))
	r.put(parquet.FixedLenByteArrayValue(o.Hash[:]))
	id := s.Replacement
	if !cancel {
		id = internalUUID(t, txs)
	}
	r.put(parquet.FixedLenByteArrayValue(id[:]))
	r.put(text(builder))
	version := uint8(2)
	if t.Version == "v1" {
		version = 1
	}
	r.put(unsigned8(version))
}

func fillTransactions(r *row, txs []transaction) {
	each := func(f func(t *transaction) parquet.Value) {
		r.list(len(txs), func(i int) parquet.Value { return f(&txs[i]) })
	}
	some := func(f func(t *transaction) (parquet.Value, bool)) {
		r.maybes(len(txs), func(i int) (parquet.Value, bool) { return f(&txs[i]) })
	}
	fee := func(of func(t *transaction) *big.Int) {
		some(func(t *transaction) (parquet.Value, bool) {
			if n := of(t); n != nil {
				return r.little(n, 16), true
			}
			return parquet.Value{}, false
		})
	}
	each(func(t *transaction) parquet.Value { h := t.Hash(); return parquet.FixedLenByteArrayValue(h[:]) })
	each(func(t *transaction) parquet.Value { return parquet.FixedLenByteArrayValue(t.from[:]) })
	each(func(t *transaction) parquet.Value { return unsigned64(t.Nonce()) })
	each(func(t *transaction) parquet.Value { return r.little(t.r, 32) })
	each(func(t *transaction) parquet.Value { return r.little(t.s, 32) })
	each(func(t *transaction) parquet.Value { return unsigned8(t.parity) })
	some(func(t *transaction) (parquet.Value, bool) {
		to := t.To()
		if to == nil {
			return parquet.Value{}, false
		}
		return parquet.FixedLenByteArrayValue(to[:]), true
	})
	each(func(t *transaction) parquet.Value { return unsigned64(t.Gas()) })
	each(func(t *transaction) parquet.Value { return unsigned8(t.Type()) })
	each(func(t *transaction) parquet.Value { return parquet.ByteArrayValue(t.Data()) })
	each(func(t *transaction) parquet.Value { return r.little(t.Value(), 32) })
	fee((*transaction).gasPrice)
	fee((*transaction).feeCap)
	fee((*transaction).tipCap)
	some(func(t *transaction) (parquet.Value, bool) { return parquet.ByteArrayValue(t.access), t.access != nil })
	some(func(t *transaction) (parquet.Value, bool) { return parquet.ByteArrayValue(t.authors), t.authors != nil })
	each(func(t *transaction) parquet.Value { return parquet.ByteArrayValue(t.raw) })
}

func fillHashes(r *row, hs []hexHash) {
	r.list(len(hs), func(i int) parquet.Value { return parquet.FixedLenByteArrayValue(hs[i][:]) })
}

func maybe64(r *row, n *uint64) { r.maybe(n != nil, unsigned64(deref(n))) }

func maybeAddress(r *row, a *hexAddress) {
	if a == nil {
		r.maybe(false, parquet.Value{})
		return
	}
	r.maybe(true, parquet.FixedLenByteArrayValue(a[:]))
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// internalUUID is rbuilder's id of a bundle: a name-based UUID with SHA-256, over fewer fields in the
// first version than in the second.
func internalUUID(t *terms, txs []transaction) order.UUID {
	digest := crypto.NewKeccakState()
	for i := range txs {
		h := txs[i].Hash()
		_, _ = digest.Write(h[:])
	}
	reverting, dropping := sorted(t.Reverting), sorted(t.Dropping)
	block := uint64(deref(t.Block))
	b := make([]byte, len(order.UUID{}), 256)
	if t.Version == "v1" {
		b = binary.AppendVarint(b, int64(block)) //nolint:gosec // as there
		b = digest.Sum(b)
		return nameUUID(appendHashes(b, reverting))
	}
	latest := deref(t.MaxTimestamp)
	if latest == 0 {
		latest = math.MaxUint64
	}
	for _, n := range [...]uint64{block, deref(t.MinTimestamp), latest, uint64(len(reverting)), uint64(len(dropping))} {
		b = binary.AppendUvarint(b, n)
	}
	b = appendHashes(appendHashes(digest.Sum(b), reverting), dropping)
	if percent := deref(t.RefundPercent); percent != 0 {
		recipient, last := txs[0].from, txs[len(txs)-1].Hash()
		if t.RefundRecipient != nil {
			recipient = common.Address(*t.RefundRecipient)
		}
		if len(t.RefundTxs) > 0 {
			last = common.Hash(t.RefundTxs[0])
		}
		b = append(b, byte(percent)) //nolint:gosec // below 100, see order.Decode
		b = append(b, recipient[:]...)
		b = append(append(b, 1), last[:]...)
	}
	return nameUUID(b)
}

func sorted(hs []hexHash) []hexHash {
	hs = slices.Clone(hs)
	slices.SortFunc(hs, func(a, b hexHash) int { return common.Hash(a).Cmp(common.Hash(b)) })
	return hs
}

func appendHashes(b []byte, hs []hexHash) []byte {
	for i := range hs {
		b = append(b, hs[i][:]...)
	}
	return b
}

// nameUUID is the UUID of a name behind its name space, here sixteen zeroes.
func nameUUID(name []byte) (u order.UUID) {
	sum := sha256.Sum256(name)
	copy(u[:], sum[:])
	u[6] = u[6]&0x0f | 5<<4
	u[8] = u[8]&0x3f | 0x80
	return u
}
