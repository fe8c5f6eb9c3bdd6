// Package chain is one consensus client's recorded calls as a tree of blocks, and the plans that
// follow from it: which payloads bring an execution client from its own head to the last forkchoice,
// and what to do with the next call of a client that is there. It does no I/O, knows no clock and
// starts nothing.
//
// # Memory
//
// An Index holds about 600 bytes for each call and no bodies; those are read again from the log, by
// position. It holds at most its limit of calls; the oldest leave first, as if the log's retention
// had taken them, and a plan that needed them names the gap.
//
// # Order
//
// Two orders exist. Positions are the log's; ids (epoch, sequence) are the order in which the calls
// went to the primary. They agree but for what an older epoch's spool stored late. Ids decide which
// forkchoice is newer, so a late one never rewinds anybody.
package chain
