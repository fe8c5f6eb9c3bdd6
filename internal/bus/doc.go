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
// # The tap
//
// With [Config.Tap] on, in a process that has the embedded server to itself and runs door and workers,
// what is published goes to the consumers of the same process at once (CORRECTNESS 21). Stages do not
// notice. Nothing rests on the tap: whatever it does not bring, the durable consumers bring as ever.
//
// IN: Publish gives the order to the pool of ConsumeIn while its store is under way. The handler may run;
// its finish, which is all that has an effect outside, waits for the sequence, from the store's
// acknowledgement or from the consumer, whichever comes first. When the store refuses, answers
// Duplicate or leaves the fate open, the tapped copy is dropped: if the order is stored after all, the
// consumer brings it. The workers' consumer is headers-only then. Its copies are matched by accept id to
// what is in hand and acknowledge that when it has ended; the body of any other is read by sequence.
// So an order is in hand of this process either by the tap or by the consumer, never by both, and an
// order that failed after the tap comes back as one that was delivered once.
//
// OK: after the acknowledgement of PublishOK the order goes to each feed that is being received here, its
// sequence known, Deliveries zero. Its copy on the target's consumer, headers-only too, is matched by
// sequence and accept id; it is acknowledged when the ledger has the order (CORRECTNESS 12), or kept for
// that. A copy that does not match is handed out without its body, which the feed reads by sequence.
//
// Nobody else may take from a headers-only consumer of IN: the same order would be in two hands. The
// process with the embedded server sets the mode before it consumes; a worker elsewhere that meets a
// headers-only consumer stands by and gives back what it was handed. A target's consumers belong to the
// holder of its lease, who sets their mode when it opens the feed.
//
// A full queue, a full feed or a consumer-brought order that waits for room end the tapping of a class
// until there is room; those orders stay in the store and come in its order. While copies of known orders
// are all that comes, the consumers are read in batches, every 50 ms, which saves most of what they cost.
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
