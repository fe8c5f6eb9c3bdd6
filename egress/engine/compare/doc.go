// Package compare says what it means that two execution clients answered the same call as they did.
// It does no I/O.
//
// # Classes
//
// A payload's status counts, and an error's code; texts differ from call to call of one client and
// never count. SYNCING and its like say nothing about a block: one side behind the other is lag,
// never a divergence. What is not sent to a client is NotCompared, never OK.
//
// # Heads
//
// Two clients at one head show the same number and roots, for which its hash stands, and the same safe and finalized
// block. At different heads nothing is compared.
//
// # Roots
//
// A client that refuses a block refuses all that is built on it. Roots attributes those answers to
// the first bad block, so that one fault is one event and a number of descendants.
package compare
