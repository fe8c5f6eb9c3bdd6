// Package engineapi is the Engine API's words: methods and what a replay may do with them, calls as
// views over the bytes that the consensus client sent, results, and the tokens of both sides.
//
// # Bytes
//
// Nothing is re-encoded. A Call points into the body that it was read from; the one change that a
// replay makes, WithoutAttributes, splices null over the attributes and keeps every other byte, so
// that arity, custody columns and members of forks to come survive.
//
// # Leniency
//
// What can't be read is still a call: the primary says what is wrong with it, in its own words. A
// call that two readers could read differently (a member twice, or in another case than the
// specification's) has no method here and is therefore never replayed. Params are only read as far
// as a question needs; a view says nothing about the rest of the body being JSON.
//
// # Statuses
//
// An unknown status is Undetermined, never an error: forks to come bring new ones.
package engineapi
