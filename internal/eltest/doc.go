// Package eltest is the test bed of the Engine API: Fake, an execution client of a few hundred lines
// that behaves as geth was observed to, with switches for its faults, and Geth, which builds and
// runs the real one.
//
// # What the fake keeps to
//
// A payload is executed when its parent is; without its parent it is SYNCING and all that is kept
// is a header, of the last 96. More than 129 payloads above the head are SYNCING too. A forkchoice
// to an older canonical block rewinds the head by at most 32, below the finalized block it is
// answered VALID and ignored. Bad blocks are remembered until the next start. Being killed may cost
// the state, as SIGKILL under the path scheme does. It takes block hashes at their word.
//
// # Faults
//
// Fault delays, hangs, loses and replaces answers by method and count. Stop and Kill close the
// port, Start opens the same one again.
//
// # Evidence
//
// Calls is everything that came, in order, with what was answered and the token it came with.
package eltest
