// Package upkeep is the bus's housekeeping: what has to happen beside the orders so that the
// promises about them hold.
//
//   - Burn moves the sequences of a stream that may have been rolled back (CORRECTNESS 7).
//   - Clock is the one clock on which ages are measured (CORRECTNESS 18).
//   - Backlog dates the oldest order that waits, per class, for the door's shedding.
//   - Purge takes away what was processed (CORRECTNESS 1).
//   - Guard keeps the volume from filling: RECORD stops first, then the door closes.
//
// Each is a loop with Run(ctx) that returns when ctx ends, with ctx's error or, for Guard,
// ErrStoreFailed. Errors of single rounds are logged when they begin and end, and the loop goes on:
// a server that restarts must not end the process.
//
// Burn, Purge and Guard change streams, so they run once per bus, beside the embedded server or
// with admin rights. Clock and Backlog only read; every process may have its own.
package upkeep
