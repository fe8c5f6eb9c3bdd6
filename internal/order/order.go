package order

import (
	"time"

	"github.com/ethereum/go-ethereum/common"
)

// Order is one accepted order on its way: its identity, class and deadline beside its bytes.
// Times are on the bus clock and carry microseconds.
type Order struct {
	// Accept names this acceptance; the ledger has one terminal record per Accept and target.
	Accept AcceptID
	// ID identifies the order within its origin; it covers the effective nonce.
	ID ID
	// Key identifies the order across origins: lists sorted, a defaulted nonce left out.
	Key ID
	// Hash is the public id: FlowProxy's bundle hash, or the transaction's hash.
	Hash common.Hash

	Signer   common.Address // recovered from the signature header
	Method   Method         // as the sender called it
	Kind     Kind
	Priority Priority
	// Origin is empty for orders of our own doors, else the peer's name.
	Origin string

	ReceivedAt time.Time // first byte at the door
	Deadline   time.Time // no delivery is started after it
	// TargetBlock is the last block that the order is for, zero: any. Once it is known to be there, no
	// delivery is started.
	TargetBlock uint64

	// Replacement is the replacement UUID; with Origin and Signer it is the replacement key.
	Replacement UUID
	// Nonce orders the submissions of one replacement key; meaningful only with Replacement.
	Nonce uint64
	// NonceDefaulted says that the door, not the sender, chose Nonce.
	NonceDefaulted bool
	// ShareNonce is the counter that a v1-mode door puts into mev_sendBundle's metadata, plus
	// one; zero: use Nonce.
	ShareNonce uint64

	// Ingress is the id of the process that waits for the verdict; empty: nobody.
	Ingress string
	// Signature is the sender's header as "Name: value", so that a record can be replayed.
	Signature string
	// Batch is set for an element of a JSON-RPC batch: "<index>/<count>:<keccak of the body>",
	// as the signature covers the whole body and only the element is kept.
	Batch string
	// Traceparent is the W3C trace context of the request, if any.
	Traceparent string
	// Trail is what validation leaves for the trace index; nil before, and in what is read back: only
	// the index looks at it.
	Trail *Trail

	// Reading is what a door has read in Body, for a worker of the same process; nil in what is read back.
	// Nobody changes it.
	Reading *Submission

	// Body is the JSON-RPC request: on IN the sender's own bytes, on OK the builder-ready form.
	Body []byte
}

// Expired reports whether no effect of o may start at now any more.
func (o *Order) Expired(now time.Time) bool { return !now.Before(o.Deadline) }

// ReplacementKey names what a replacement replaces: a peer's order never supersedes a local one.
type ReplacementKey struct {
	Origin string
	Signer common.Address
	UUID   UUID
}

// ReplacementKey returns o's replacement key; ok is false when o can't be replaced.
func (o *Order) ReplacementKey() (key ReplacementKey, ok bool) {
	if o.Replacement.IsZero() {
		return ReplacementKey{}, false
	}
	return ReplacementKey{Origin: o.Origin, Signer: o.Signer, UUID: o.Replacement}, true
}

// Receipt says how an order was stored.
type Receipt struct {
	// Duplicate: an order with the same ID was stored within the duplicate window before.
	Duplicate bool
	// Sequence is the stream sequence of the stored (or earlier) message.
	Sequence uint64
}

// Verdict is a worker's decision about one acceptance. A nil Reason means that the order is valid
// and stored for delivery.
type Verdict struct {
	Accept AcceptID
	ID     ID
	Signer common.Address
	Reason *Reason
}

// Delivery is an order as a stream hands it out.
type Delivery struct {
	Order *Order
	// Sequence is the message's stream sequence; zero while it is not stored yet (the tap).
	Sequence uint64
	// StoredAt is when the stream stored it, on the bus clock; zero while that is not known.
	StoredAt time.Time
	// TappedAt is when it was handed over while its store was under way, on the local clock; zero: it was read
	// from the stream.
	TappedAt time.Time
	// Deliveries counts how often the consumer handed it out, this time included.
	Deliveries int
	// Seen: it may have been handed out before, so what became of it then is not known. It is a
	// redelivery, or was stored before this process's present connection to the server: a server
	// that was killed forgets acknowledgements and hands out again as if for the first time.
	Seen bool
	// Size is the length of the body in bytes, also when Order.Body was let go.
	Size int
}
