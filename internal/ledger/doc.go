// Package ledger holds the terminal records: for every accepted order and every target that was
// owed it, exactly one [Entry] that says how it ended and why.
//
// Entries have a fixed size and travel in batches, one message per batch, so that accounting costs
// little per order (CORRECTNESS 13). A batch is entries back to back, nothing else.
package ledger
