// Package peerlink exchanges validated orders with the nodes of other operators, over leafnode connections of
// the embedded server. Each operator serves what its own searchers sent and fetches what the others' sent;
// whoever gets something from a peer gives it to no other peer.
//
// # Identity
//
// Connections are TLS 1.3, with certificates on both sides that are pinned by their key or issued by a private
// authority in the peer's name. Nothing else says who a peer is: no header, no subject, no name that it
// claims. A Verifier has the last word on both sides. A certificate that is renewed is shown from the next
// handshake on; a peer may have two pins while it changes its key.
//
// # Isolation
//
// A peer has an account of its own per lane and direction, without JetStream, into which exactly three subjects
// per stream are imported: the reset of its consumer, that consumer's flow control and what is delivered
// to it. It can neither publish, purge, acknowledge nor subscribe to anything else of ours. What it sends is
// stored per peer and class, under a subject that we give it, within a byte limit of its own.
//
// # Lanes
//
// Orders of high priority have a connection of their own, so that bundles of megabytes do not hold them up.
//
// # Delivery
//
// At least once and in order per peer and class, from the origin's OK stream on: the origin keeps a durable
// consumer per peer, and the receiver resumes after what it has stored. Receive hands an order on and takes
// it for done when its function returns nil. An origin does not keep orders for a peer that is away: what it
// purges in the meantime is counted and logged as missed.
//
// # Backpressure
//
// Flow control between the two servers bounds what is in flight; a slow peer lags, visibly, and delays nobody
// else. At the receiver the oldest orders of a peer give way when its bytes are used up.
//
// # Shutdown
//
// Run ends when its context does, and closes the package's own connections. Leafnode connections end with the
// server, or with the peer's removal by Set.
package peerlink
