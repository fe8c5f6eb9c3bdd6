// Package ledger holds the terminal records: for every accepted order and every target that was
// owed it, exactly one [Entry] that says how it ended and why.
//
// Entries have a fixed size and travel in batches, one message per batch, so that accounting costs
// little per order (CORRECTNESS 13). A batch is entries back to back, nothing else. Who writes them,
// and when, is the business of the stages: a worker for an order that ends before OK ([AnyTarget]), a
// target's loop for the rest.
//
// [Audit] reads them back and says where the promise is broken.
package ledger
