package order

import (
	"errors"
	"io"
	"strconv"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/go-json-experiment/json/jsontext"
)

// DefaultMaxTxs is FlowProxy's bound on the transactions of one bundle.
const DefaultMaxTxs = 100

// Limits bound what Decode accepts.
type Limits struct {
	MaxTxs int // orders.max_txs; zero means DefaultMaxTxs
}

func (l Limits) maxTxs() int {
	if l.MaxTxs <= 0 {
		return DefaultMaxTxs
	}
	return l.MaxTxs
}

// Submission is a decoded view over one call's parameters. It keeps a reference to them; it is
// read-only once decoded, and so safe for concurrent use.
type Submission struct {
	Method Method
	Kind   Kind
	// Params is the sender's own parameter object or string, never re-encoded.
	Params []byte
	// Txs are the network-encoded transactions, in order, decoded from hex. Those of a
	// mev_sendBundle are its bodies' and its nested bundles', in order.
	Txs [][]byte
	// Replacement is the replacement UUID (uuid wins over replacementUuid); zero: none.
	Replacement UUID
	// Nonce is the sender's explicit nonce, nil when it gave none or it can't be replaced.
	Nonce *uint64
	// MaxTimestamp and TargetBlock bound the deadline; zero: unset. TargetBlock is blockNumber,
	// inclusion.maxBlock (or block), or maxBlockNumber.
	MaxTimestamp uint64
	TargetBlock  uint64

	// Relayed is what the node that passed the order on says beside the sender's own members; nil: the sender
	// itself sent it.
	Relayed *Relayed

	bundle *bundle      // of eth_sendBundle
	share  *shareBundle // of mev_sendBundle
	txHash common.Hash  // of KindTransaction
	// sidecar is set for a KindTransaction with blobs: its bytes say more than its hash.
	sidecar bool
	// lenient: something in it is written as the first proxy's types would not read it, see Strict.
	lenient bool
	// cuts are the members of Params that a builder gets from us instead, in order.
	cuts []span
	// unknown are the members of Params that mean nothing to us, in order.
	unknown []span
}

// Over returns s as the reading of a copy of the request that it was read in. body is that request, of which
// Params is a part. It is nil when s is, or has other views of body than Params.
func (s *Submission) Over(body, copied []byte) *Submission {
	if s == nil || s.share != nil || len(s.Params) == 0 || len(copied) != len(body) {
		return nil
	}
	at := cap(body) - cap(s.Params)
	end := at + len(s.Params)
	if at < 0 || end > len(body) || &body[at] != &s.Params[0] {
		return nil
	}
	c := *s
	c.Params = copied[at:end:end]
	return &c
}

// decoder is one Decode under way.
type decoder struct {
	*reader
	s      *Submission
	input  []byte
	maxTxs int
	start  int // of the parameter object
}

// Decode reads params (the raw JSON array of one call) as method m's. Every error is a *Reason,
// its text says where in params the fault is.
//
// It is one pass: hex goes into one buffer of half the size of params, everything else stays a view
// over params, which must not change as long as the submission is in use. Member names are
// case-sensitive, a duplicate is refused at any depth, and so are nesting deeper than 64 and more
// than 65,536 members and unknown values.
func Decode(m Method, params []byte, lim Limits) (*Submission, error) {
	return decode(&Submission{Method: m}, params, lim)
}

func decode(s *Submission, params []byte, lim Limits) (*Submission, error) {
	d := decoder{reader: newReader(params), s: s, input: params, maxTxs: lim.maxTxs()}
	defer d.release()
	d.arena = make([]byte, 0, len(params)/2)
	if f := d.params(s.Method); f != nil {
		return nil, f.reason()
	}
	s.lenient = d.lenient
	return s, nil
}

// params reads the array around the one parameter that every method has; the private raw
// transaction may have preferences behind it.
func (d *decoder) params(m Method) *fault {
	if d.next() != jsontext.KindBeginArray {
		return malformed("params: expected an array")
	}
	if f := d.begin(jsontext.KindBeginArray, ""); f != nil {
		return f
	}
	if d.next() == jsontext.KindEndArray {
		return malformed("params: expected a parameter")
	}
	if f := d.param(m); f != nil {
		return f
	}
	if m == MethodSendPrivateRawTransaction && d.next() != jsontext.KindEndArray {
		if f := d.skip(); f != nil {
			return f.in("preferences")
		}
	}
	switch d.next() {
	case jsontext.KindEndArray, jsontext.KindInvalid:
	default:
		return malformed("params: more parameters than expected")
	}
	if f := d.end(); f != nil {
		return f
	}
	if _, err := d.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return malformed("params: data after the array")
	}
	return nil
}

func (d *decoder) param(m Method) *fault {
	switch m {
	case MethodSendBundle:
		return d.decodeBundle()
	case MethodCancelBundle:
		return d.decodeCancel()
	case MethodSendShareBundle:
		return d.decodeShareBundle()
	case MethodSendPrivateTransaction:
		return d.decodePrivate()
	case MethodSendRawTransaction, MethodSendPrivateRawTransaction:
		return d.decodeRaw()
	case MethodSubsidiseBlock:
		if d.s.Relayed != nil {
			return d.decodeSubsidy()
		}
	default:
	}
	return malformed("method takes no order")
}

// members reads the parameter object. known handles a member that it knows and returns true; every
// other is kept in unknown.
func (d *decoder) members(known func(name []byte, start int) (ok bool, f *fault)) *fault {
	if f := d.begin(jsontext.KindBeginObject, "expected an object"); f != nil {
		return f
	}
	d.start = d.offset() - 1
	f := d.rest(func(name []byte, start int) *fault {
		ok, f := known(name, start)
		if f != nil || ok {
			return f
		}
		if f := d.skip(); f != nil {
			return f
		}
		d.s.unknown = append(d.s.unknown, d.member(start))
		return nil
	})
	if f != nil {
		return f
	}
	d.s.Params = d.input[d.start:d.offset()]
	return nil
}

// member is the member that began at start and ends here, relative to the parameter object.
func (d *decoder) member(start int) span { return span{start - d.start, d.offset() - d.start} }

// transaction reads one transaction into Txs.
func (d *decoder) transaction() *fault {
	if len(d.s.Txs) >= d.maxTxs {
		return &fault{code: CodeTxCount, text: "more than " + strconv.Itoa(d.maxTxs) + " transactions"}
	}
	tx, f := d.bytes()
	if f != nil {
		return f
	}
	if len(tx) == 0 {
		return malformed("empty transaction")
	}
	d.s.Txs = append(d.s.Txs, tx)
	return nil
}

// HasBlob reports whether any transaction, nested ones included, is a blob transaction of any form.
func (s *Submission) HasBlob() bool {
	for _, tx := range s.Txs {
		if tx[0] == types.BlobTxType {
			return true
		}
	}
	return false
}

// AllReverting reports whether there are transactions and each may revert: all hashes are in
// revertingTxHashes, or every body of a mev_sendBundle may revert.
func (s *Submission) AllReverting() bool {
	switch {
	case len(s.Txs) == 0:
		return false
	case s.bundle != nil:
		return s.bundle.allReverting(s.Txs)
	case s.share != nil:
		return s.share.allReverting()
	default:
		return false
	}
}
