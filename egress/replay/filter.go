package replay

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"millrace/internal/jsonrpc"
	"millrace/internal/order"
)

// Filters choose orders: of one key, any value will do; of several keys, each must hold. The zero
// value chooses all.
type Filters struct {
	methods    []order.Method
	priorities []order.Priority
	signers    []common.Address
	hashes     []common.Hash // public
	txs        []common.Hash
	ids        []order.ID
	accepts    []order.AcceptID
}

// Add reads one "key=value". The keys:
//
//	method    a method as the sender called it, such as eth_sendBundle
//	priority  high, medium or low
//	signer    the sender's address
//	hash      the public hash, of a bundle or of a transaction
//	tx        the hash of a transaction that is in it
//	id        the internal id, or the acceptance, as the ledger shows them
func (f *Filters) Add(text string) error {
	key, value, ok := strings.Cut(text, "=")
	if !ok {
		return filterFault(text, "key=value is expected")
	}
	switch key {
	case "method":
		m, ok := order.ParseMethod(value)
		if !ok {
			return filterFault(text, "no method of orders")
		}
		f.methods = append(f.methods, m)
	case "priority":
		i := slices.IndexFunc(order.Priorities[:], func(p order.Priority) bool { return p.String() == value })
		if i < 0 {
			return filterFault(text, "high, medium or low is expected")
		}
		f.priorities = append(f.priorities, order.Priorities[i])
	default:
		return f.addBytes(text, key, value)
	}
	return nil
}

func (f *Filters) addBytes(text, key, value string) error {
	b, err := hex.DecodeString(strings.TrimPrefix(strings.ToLower(value), "0x"))
	if err != nil {
		return filterFault(text, "hex is expected")
	}
	switch {
	case key == "signer" && len(b) == common.AddressLength:
		f.signers = append(f.signers, common.Address(b))
	case key == "hash" && len(b) == common.HashLength:
		f.hashes = append(f.hashes, common.Hash(b))
	case key == "tx" && len(b) == common.HashLength:
		f.txs = append(f.txs, common.Hash(b))
	case key == "id" && len(b) == len(order.ID{}):
		f.ids = append(f.ids, order.ID(b))
	case key == "id" && len(b) == len(order.AcceptID{}):
		f.accepts = append(f.accepts, order.AcceptID(b))
	default:
		return filterFault(text, "no such key, or a value of another length; keys are method, priority, signer, hash, tx and id")
	}
	return nil
}

func filterFault(text, why string) error {
	return fmt.Errorf("%w: filter %q: %s", ErrConfig, text, why)
}

// Match reports whether the order is chosen. Only a tx filter reads the body.
func (f *Filters) Match(o *order.Order) bool {
	return in(f.methods, o.Method) && in(f.priorities, o.Priority) && in(f.signers, o.Signer) && in(f.hashes, o.Hash) &&
		(len(f.ids)+len(f.accepts) == 0 || slices.Contains(f.ids, o.ID) || slices.Contains(f.accepts, o.Accept)) &&
		(len(f.txs) == 0 || f.hasTx(o))
}

func in[T comparable](wanted []T, v T) bool { return len(wanted) == 0 || slices.Contains(wanted, v) }

func (f *Filters) hasTx(o *order.Order) bool {
	if o.Kind == order.KindTransaction {
		return slices.Contains(f.txs, o.Hash)
	}
	sub, err := decode(o, 0)
	if err != nil {
		return false
	}
	for _, raw := range sub.Txs {
		tx := new(types.Transaction)
		if tx.UnmarshalBinary(raw) == nil && slices.Contains(f.txs, tx.Hash()) {
			return true
		}
	}
	return false
}

// decode reads an order's stored request.
func decode(o *order.Order, maxTxs int) (*order.Submission, error) {
	calls, batch, rpcErr := jsonrpc.Parse(o.Body, 1)
	switch {
	case rpcErr != nil:
		return nil, rpcErr
	case batch || len(calls) != 1 || calls[0].Err != nil:
		return nil, order.Refuse(order.CodeMalformed, "stored body is not a single request")
	}
	return order.Decode(o.Method, calls[0].Request.Params, order.Limits{MaxTxs: maxTxs})
}
