// Package workers is the validation pool: it takes accepted orders by priority, decides whether they
// are valid, and hands the valid ones on in the form that a builder takes.
//
// # Delivery
//
// Every order that is taken ends in exactly one of two ways, and is acknowledged only after that is
// stored. A valid order is in OK. An order that ends before OK (invalid, expired, poisoned) has one
// record for all targets (CORRECTNESS 9), and when its sender is at fault a refusal that every door
// can read. Then the waiting door, if any, is told. Whatever fails on the way is tried again,
// without a count limit (CORRECTNESS 8), with the same bytes and under the same message id.
//
// Deadlines are checked immediately before each effect. One case is different on purpose: when an
// attempt to store the order in OK was made and its outcome is unknown, or may have been made by a
// worker that died or before a server that died (order.Delivery.Seen), an expired order still goes to
// OK and not into the record of those that never got there. There it can only expire, or has a record
// already, so it has one end, and not two.
//
// # Poison
//
// An order that was handed out three times runs alone: no other order of this process is validated
// at the same time, and a mark is stored before and removed after, one at a time. A mark that
// outlived its process names the order that killed it: that order is recorded as poisoned. A panic
// is recovered and counts as a failed attempt; an order that panics when it runs alone is poisoned
// too. One gap is left: when an earlier attempt did reach OK and went unacknowledged, and the process
// is then killed for another reason in the millisecond in which the order runs alone, it is in OK and
// recorded as poisoned as well.
//
// # Backpressure
//
// At most worker.concurrency orders are validated at a time; what waits is held by the source. Between
// two transactions of an order, and while a blob transaction's proofs are verified, which happens
// beside the slot, waiting orders of a higher class go first, so none of them waits
// longer than one signature recovery. OK being full is waited out here, until the order's deadline.
//
// # Shutdown
//
// Run returns when the source has stopped handing out orders and the last one is settled, or, when
// the context's end leaves no time, handed back.
package workers
