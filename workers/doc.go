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
// Deadlines are checked immediately before each effect.
//
// # One end
//
// An order may be with two workers, or come back after its end: acknowledgements are lost, a server that is
// killed forgets some, a worker that is cut off or frozen does not know that its order was given to
// another. So two workers may want two ends, one of them OK. What they know of each other decides nothing;
// the store does, by one rule: an end before OK is claimed before it is written (Ends). A claim is stored in
// OK under the message id that the order itself would have there, so one of the two gets in, whatever the
// timing. It carries the record, and from then on every worker does what it says.
//
//   - Both want OK: the second is a duplicate. A duplicate may be a claim, too, so it is looked at.
//   - One wants OK and gets there, the other an end: its claim is refused. It writes nothing, acknowledges,
//     and a suspicion against the order is dropped. The targets see to its end.
//   - The claim gets there first: the order is a duplicate. Its worker finishes the claim: the refusal, the
//     record, the verdict, the acknowledgement, in this order, each of which may be done twice.
//   - A worker dies on the way: the order comes back, and the next one finds the claim and goes on, though it
//     would say otherwise by now. One that finds the record has nothing to do, as the refusal is before it.
//   - The id is forgotten: after orders.max_age and half a minute, or after orders.max_age when the server
//     was started again and the order, settled by every target, is purged from OK. Such an order has expired.
//     It is claimed anew, then looked for in OK, in DONE and in REJECTED.
//
// Two things are done without a claim, so that nothing waits for one that need not. A valid order goes to OK:
// what may have been handed out before (order.Delivery.Seen) after a look for a record, which another
// version of the rules may have written; everything else at once. And an order that nobody else can have yet,
// handed out for the first time and received no more than two seconds ago, is refused at once: another worker,
// who can get it only after four, finds the same fault.
//
// What is left: a worker that is frozen between its last look at the clock and its write, for longer than
// orders.max_age and half a minute; and two workers of different rules, of which the first is frozen
// for more than two seconds between its first look at a fresh order and the record of its refusal.
//
// # Poison
//
// An order that was handed out three times runs alone: no other order of this process is validated
// at the same time, and a mark is stored before and removed after, one at a time. Marks that
// outlived two processes name the order that killed them: that order is recorded as poisoned. One is not
// enough, as a process may be killed for any reason while an innocent order runs alone. A panic
// is recovered and counts as a failed attempt; an order that panics when it runs alone is poisoned
// too. Poison is an end like others and is claimed: when an earlier attempt did reach OK, the process
// died of something else or of what can't be undone, and nothing is recorded.
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
// the context's end leaves no time, handed back. Warming the rules can't be interrupted; it is not
// waited for then.
package workers
