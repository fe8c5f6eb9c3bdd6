package order

import (
	"errors"

	"github.com/ethereum/go-ethereum/common"
)

var errTodo = errors.New("todo")

// Limits bound what Decode accepts.
type Limits struct {
	MaxTxs int // orders.max_txs
}

// Submission is a decoded view over one call's parameters.
type Submission struct {
	Method Method
	Kind   Kind
	// Params is the sender's own parameter object or string, never re-encoded.
	Params []byte
	// Txs are the network-encoded transactions, in order, decoded from hex.
	Txs [][]byte
	// Replacement is the replacement UUID (uuid wins over replacementUuid); zero: none.
	Replacement UUID
	// Nonce is the sender's explicit nonce, nil when it gave none.
	Nonce *uint64
	// MaxTimestamp and TargetBlock bound the deadline; zero: unset. TargetBlock is blockNumber,
	// inclusion.maxBlock (or block), or maxBlockNumber.
	MaxTimestamp uint64
	TargetBlock  uint64
}

// Decode reads params (the raw JSON array of one call) as method m's. Every error is a *Reason.
func Decode(m Method, params []byte, lim Limits) (*Submission, error) { return nil, errTodo }

// HasBlob reports whether any transaction, nested ones included, is a blob transaction of any form.
func (s *Submission) HasBlob() bool { return false }

// AllReverting reports whether there are transactions and each may revert.
func (s *Submission) AllReverting() bool { return false }

// PublicHash is FlowProxy's bundle hash under the effective nonce (with version defaulted), or the
// transaction's hash, or for mev_sendBundle and eth_cancelBundle a SHA-256 id.
func (s *Submission) PublicHash(nonce uint64) (common.Hash, error) { return common.Hash{}, errTodo }

// Identify returns the internal id and the cross-origin key (see Order.ID, Order.Key).
func (s *Submission) Identify(signer common.Address, nonce uint64, defaulted bool) (id, key ID) {
	return ID{}, ID{}
}

// AppendBuilderBody appends the complete JSON-RPC request for a builder: the sender's object with
// signingAddress, replacementNonce, version and bundleHash spliced in, every unknown field kept.
func (s *Submission) AppendBuilderBody(dst []byte, o *Order) ([]byte, error) { return nil, errTodo }
