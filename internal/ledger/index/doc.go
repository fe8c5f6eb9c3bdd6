// Package index answers what became of an order, for whoever knows one of its names: its public hash
// or id, its replacement UUID, the acceptance, or a transaction inside it.
//
// One loop ([Index.Run]) follows what the pipeline leaves behind: validated orders, as headers without
// bodies, and the terminal records. It is on nobody's path: it acknowledges nothing, holds nothing
// back, and when it is late or gone no order waits. [Index.Lookup] joins what it finds into one
// [Timeline] per acceptance, in microseconds.
//
// # Durability
//
// Entries and the places up to which the logs are read are written together, so after kill -9 of the
// process the index is as it was at some moment in the past ten seconds and goes on from there:
// nothing is skipped, and to read something twice changes nothing, because a key follows from the
// order alone. Nothing in it is worth a backup: what is younger than the ledger's retention can be
// read again. What validation wrote while the index was away for longer than the OK streams keep
// it is counted as missed; those orders are known by their terminal records alone, without the
// transactions in them.
//
// # Layout
//
// A key begins with the minute in which its order was received. So new entries lie behind all older
// ones, files are written once and hardly ever merged, and what is too old, or too much, goes as whole
// files, by its time. A look-up asks each minute, most of which a filter in memory answers.
package index
