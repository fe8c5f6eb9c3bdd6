package order

import (
	"errors"
	"time"

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

// TxInfo is what validation learns of one transaction.
type TxInfo struct {
	Hash common.Hash
	From common.Address
}

// Rules are the consensus rules of one chain.
type Rules struct{}

// NewRules returns the rules of the chain with the given id; unknown ids get the newest fork.
func NewRules(chainID uint64) (*Rules, error) { return nil, errTodo }

// Check decodes one network-encoded transaction, applies the rules as of now and recovers its
// sender. Every error is a *Reason. kind says whether it stands alone or in a bundle (a bundle's
// blob transaction must bring its sidecar).
func (r *Rules) Check(raw []byte, kind Kind, now time.Time) (TxInfo, error) { return TxInfo{}, errTodo }

// BuilderStats is what a builder reports about one entity.
type BuilderStats struct {
	PassedToBSimulation uint64
	Included            uint64
	MaxContributionPct  float64
}

// Activity is one entity's record over the score window; the zero value is ready. Not safe for
// concurrent use.
type Activity struct{}

// Request counts one request at now; Invalid one refused order; Built what a builder reported.
func (a *Activity) Request(now time.Time)               {}
func (a *Activity) Invalid(now time.Time)               {}
func (a *Activity) Built(now time.Time, s BuilderStats) {}

// Score is FlowProxy's score with its defects mended; below 0 is good, 3 excludes High, 6 is Low.
func (a *Activity) Score(now time.Time) float64 { return 0 }

// Classify returns the class of a submission of size bytes by an entity with the given score.
func Classify(score float64, s *Submission, size int) Priority { return PriorityMedium }

// RecoverSigner verifies a signature header value "0xaddress:0xsignature" over body and returns the
// signer (EIP-191 over the hex of keccak256(body)).
func RecoverSigner(header string, body []byte) (common.Address, error) {
	return common.Address{}, errTodo
}

// ClaimedSigner returns the address that a header value claims, unverified.
func ClaimedSigner(header string) (common.Address, bool) { return common.Address{}, false }
