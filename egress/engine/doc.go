// Package engine keeps execution clients at the head that one consensus client drives, from the record
// of its Engine API calls. A Replayer is one client's; a Runner replays a closed part of the record
// into any client. What a client needs is planned by package chain, what its answers mean beside the
// primary's is said by package compare; here are the state machine, the calls and their deadlines.
//
// # Delivery
//
// A client's own head says where to resume, never a cursor: clients lose blocks that they answered
// VALID for. So after every anomaly (a restart, a timeout, a SYNCING) the client is asked for its head
// and a new plan is made; whatever was in flight when a process died is harmless. Payloads may be
// sent more than once, forkchoices follow the order in which the consensus client sent them, and one
// that is older than one already sent is never sent. VALID does not mean applied: heads are read back.
//
// One call to a client is in flight at a time. Attributes and getPayload only reach a client in
// ShadowBuild; calls whose token nobody vouched for reach none.
//
// What the record lost is fetched from the primary, block by block, if all of it can be had: a payload is put
// together from header and body. Nobody has to trust it: a client computes the hash, which a recorded call names.
//
// # Head state
//
// With Config.HeadStateEvery what a Live client shows of its head is held against what the primary shows, between two
// calls. The primary is asked from a goroutine of its own, so one that hangs holds up nobody. What differs twice in a row
// is an event; nothing is done about it.
//
// # The primary
//
// Its replayer watches the outcomes of the live calls and sends nothing while they are answered. After
// an outage it catches the primary up. Each step goes through the front door, which refuses it with
// ErrOvertaken when a live call went out since it was decided; then everything is decided again. It
// never takes the primary's head back.
//
// # Backpressure
//
// Nobody waits for a client. What a client has not got yet stays in the log; of it the Tape, shared by
// all replayers of a process, holds an index of at most Config.MaxCalls calls without bodies and
// a few MiB of the newest bodies. A client that falls behind is caught up by a plan, which leaves out
// what the end result does not need.
//
// # Shutdown
//
// Run returns when its context ends; a call in flight is abandoned, which is as harmless as a crash.
package engine
