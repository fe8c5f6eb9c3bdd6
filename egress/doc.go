// Package egress is the last stage: it takes validated orders from the store to their targets. It
// holds what every kind of target shares, the loop and its policy; a package below it (builder) knows
// how one request to one kind of target is made and what the answer means.
//
// A [Dispatcher] runs one loop per [Destination]. A loop is one goroutine that owns all state of its
// target; requests are made by goroutines that it starts, at most [Config.InFlight] and a few. A
// slow or dead target therefore affects no other one.
//
// # Delivery
//
// One process at a time owns a target, by a lease, and no request starts on a lease that has ended.
// Every order that the target is owed gets exactly one terminal record (internal/ledger), written
// before the order is acknowledged to the store. Acknowledgements are hints: a new owner reads the
// records first and skips what has one. What its predecessor may have sent goes out once more,
// marked as a possible repeat. So delivery is at least once, and twice only within the window that
// was in flight when an owner died.
//
// Copies of one order (same id in one origin, same key across origins) reach a target once: the
// first copy on the wire claims the order, later ones wait for its end. The submissions of one
// replacement key go out one at a time, highest nonce first, and an older one never follows a newer
// one that the target has, or may have.
//
// # Backpressure
//
// Nothing upstream waits for a target. An order that waits for its turn costs about 400 bytes: its
// body is read again from the store, except for a bounded cache. At most [Config.MaxWaiting] orders
// of a class wait in a loop, the rest stays in the store; the oldest end at their deadline, by a
// timer that runs whether or not the target answers. Slots are kept for each class, so that orders
// of a lower class in flight never hold back a high one. Without a working ledger no request starts
// once one window of results is unrecorded.
//
// # Shutdown
//
// When the context ends, a loop takes and starts nothing more, waits for the requests on the wire at
// most [Config.Drain], records their results and gives up the lease. What it did not finish belongs
// to the next owner.
package egress
