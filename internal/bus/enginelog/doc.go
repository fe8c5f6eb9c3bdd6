// Package enginelog keeps the Engine API's record: what the consensus client called and how the primary
// answered, in the stream ENGINE, in the order of dispatch, and what the replayers of that record share: their
// cursors, their modes, the epoch of the door and the choice of the primary.
//
// # Recording
//
// A [Recorder] takes records without ever waiting and without ever failing the call that they are of.
// It writes each to the spool, an append-only file, and publishes what the spool holds, oldest first. A
// record leaves the spool when the store has acknowledged it. So a bus that is away, a process that is killed and
// the two at once lose nothing, and what was spooled is stored before what came later, without a special case for
// either. The spool is not synced: it is for processes that die, not for machines.
//
// Writing to the spool is left for after a call's answer, so that it takes no CPU from the call: a request is
// spooled with its outcome, or 5 ms after it was dispatched. A process that is killed in between loses it without
// a trace, as it did in the moment before; the execution client may have carried it out.
//
// Where the spool can't be written, records wait in memory and are published from there. Whatever is lost is
// counted by reason in millrace_engine_record_lost_total: no room in memory, in the spool (its oldest go) or
// for a record of that size; torn or damaged spool frames; a record that the store will never take.
//
// # Order and repeats
//
// A record is sent when the one before it is stored, so one that was lost on the way is never overtaken by
// those behind it. After any trouble the stream is read from the last acknowledged sequence on: what of the
// spool is there already is not sent again, however long ago and however much it was.
// Message ids are <epoch>.<sequence>.<q|o>, so within two minutes the server itself drops a repeat. A
// record that exceeds a message is sent in parts under one try; an interrupted one is sent once more as a whole.
//
// # Reading
//
// A [Log] hands out entries in the stream's order. What it can't hand out is a [Loss] with a reason: it was gone
// before it was read, parts of it are missing, or it can't be read. [Log.Follow] keeps a durable consumer per
// execution client for its acknowledgements, but trusts it with nothing: what does not come in the stream's
// order is read by sequence instead.
//
// # Retention
//
// ENGINE drops its oldest after record.engine.max_age (24 h) or above record.engine.max_bytes, read or not
// (CORRECTNESS 22): an execution client that is away for longer catches up by other means, and no such
// client may stop the recording of the present. For the same reason no floor of a consumer purges it, and
// RECORD does not source it: a copy with another retention would double the writes of the largest
// messages on the bus, to keep what ENGINE keeps for as long as is configured.
//
// Divergences have the stream DIVERGENCE to themselves, for as long as ledgers are kept: they are evidence
// that people look at days later, and they would only be in the way of the replayers.
//
// # Backpressure
//
// None reaches a caller of the Recorder, unless it asks: an import waits for [Recorder.Room], as a file can wait
// and losing part of it helps nobody. Readers are as fast as the function that they call.
//
// # Shutdown
//
// When the context of [Recorder.Run] ends, it spools what it has been given, publishes for at most
// [DrainTimeout], and returns. What is left is in the spool for the next process.
package enginelog
