// Package bus is the only place where Millrace speaks NATS: an embedded server or a remote one,
// publishing with acknowledgement, prioritised consumption with verdicts, leases, ledgers and the
// small shared state of the pipeline. Stages see it only through ports of their own.
//
// # Delivery
//
// At least once, everywhere. A publish is answered after the store's acknowledgement; a publish
// whose fate is unknown is repeated with the same message id, so it is stored once
// (CORRECTNESS 4). A consumed message is acked only after its handler's verdict, no delivery count
// ends it (CORRECTNESS 8), and every way in which a consumer can go silent ends in a reopened
// consumer. What may be a repeat is the business of the ledger (CORRECTNESS 12).
//
// # Backpressure
//
// Publish never buffers: a full stream is order.ErrFull, a store that does not answer within two
// seconds order.ErrUnavailable. ConsumeIn holds a bounded number of orders and bytes of each class
// and stops pulling a class that is at its bound, without touching the others. High orders share
// no connection with the rest, because a connection is an ordered byte pipe.
//
// # Shutdown
//
// When the context of a consuming call ends it stops pulling, finishes what it holds (for at most
// [DrainTimeout]), hands back what it has not begun, and returns. [Bus.Run] comes last: it drains
// the connections and stops the embedded server.
package bus
