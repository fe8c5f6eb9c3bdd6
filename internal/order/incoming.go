package order

import "time"

// Incoming is an order as a peer sent it, by whatever way. Who sent it is known; nothing else that the peer says is.
type Incoming struct {
	// Peer is the peer's name, by which its orders' origin is known from here on.
	Peer string
	// Order has the peer's claims; nil: it made none.
	Order *Order
	// Body is the JSON-RPC request in its builder-ready form.
	Body []byte
	// Key is what makes a redelivery of the same message the same, within the peer's messages: its stream and
	// sequence, say.
	Key string
	// ArrivedAt is when it arrived, on the bus clock; a redelivery has the time of the first delivery.
	ArrivedAt time.Time
	// SentAt is when the peer says that it sent, or stored, the order, on the peer's clock; zero: it does not say.
	SentAt time.Time
	// Redelivered: it may have been received before.
	Redelivered bool
	// Rights are what the peer may send; zero is RightsOrders.
	Rights Rights
}

// Rights are what a peer may send.
type Rights uint8

// The rights.
const (
	// RightsOrders are orders.
	RightsOrders Rights = iota + 1
	// RightsAll are orders and subsidies: Flashbots' own, proven by the signature on the request.
	RightsAll
)
