// Package cache keeps answers of nodes for as long as they stay true, and lets identical calls that are under way at
// the same time share one answer. It stands in the door, before the queue.
//
// # What is kept
//
// Results that a finalized block, a block's hash or nothing at all decides are kept for ever: as long as there is
// room. What depends on the head, or on a block that may still change, is kept until there is another head, and no
// longer than Config.TTL. Never kept are what is pending, errors, null, answers of a node that is behind, and calls
// that are not understood (see rpcapi.Method.Canonical). While no head is known, nothing that depends on it is kept,
// and what is final is not known either. The tracked head is asked for in memory: no call is made for it.
//
// A new head does not delete anything: what it ended is not found any more, is written over when it is asked for
// again, and makes room when room is needed.
//
// # Sharing
//
// With Config.Coalesce, a call that is identical to one under way, of the same class and with the same head, waits
// for that one's answer and gets it under its own id; so is an error shared, but not kept. What is pending is not
// shared. The first caller asks the node on its own goroutine, under a context that ends when nobody waits for the
// answer any more: one who leaves ends nothing for the others, and if it is the first one that leaves, its Do
// returns when the answer is there.
//
// # Backpressure
//
// Kept answers weigh at most Config.MaxBytes together, their upkeep included; the least useful are dropped and
// counted. An answer of more than a sixteenth of that is not kept. Calls under way are bounded by who makes them.
//
// # Shutdown
//
// There is nothing to stop: no goroutine outlives a Do.
package cache
