package export

import (
	"math"
	"strings"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/parquet-go/parquet-go"

	"millrace/internal/order"
)

// receipts makes rows of `bundle_receipts`: of what came from a peer.
type receipts struct{}

func (receipts) rows(m *Message, w *writer) (skip, error) {
	o := m.Order
	switch {
	case o.Origin == "":
		return skipLocal, nil
	case o.Kind == order.KindTransaction:
		return skipOther, nil
	}
	r := w.row()
	r.put(parquet.FixedLenByteArrayValue(o.Hash[:]))
	r.put(parquet.FixedLenByteArrayValue(crypto.Keccak256(o.Hash[:])))
	r.maybe(false, parquet.Value{}) // no header of the record says when the peer sent it
	r.put(microseconds(o.ReceivedAt))
	r.put(text(w.builder))
	r.put(text(builderName(o.Origin)))
	r.put(unsigned32(uint32(min(len(o.Body), math.MaxUint32))))
	r.put(unsigned8(uint8(o.Priority) - uint8(order.PriorityHigh)))
	return skipNone, w.write()
}

// builderName is a name as the tables have it: without hyphens.
func builderName(s string) string { return strings.ReplaceAll(s, "-", "_") }
