// Package replay sends recorded orders once more: to an order door as their senders did, or to a
// builder as it would get them from us.
//
// # Schedule
//
// The schedule is open: each order has its time, the time of its receipt scaled by [Config.Speed], and
// a target that is slow with one order delays no other. What begins later than [LateAfter] after its
// time, because all connections were busy or the record could not be read fast enough, counts as late.
// Without a speed the next order goes out as soon as a connection is free. The classes are recorded
// independently, so orders are put back into the order of their receipt within [ReorderWindow].
//
// Orders of one signer and replacement key go out one after the other, the next when the one before
// has its answer: a cancel must not overtake what it cancels.
//
// # Bytes
//
// As a sender, the bytes are the recorded ones, with the recorded signature or a new one. As a builder
// feed they are built from the recorded bytes by the functions that a worker uses, and what a worker
// would refuse is not sent. [Config.ShiftTime] and [Config.ShiftBlocks] change the bytes, so they need
// a new signature or a builder.
//
// An element of a batch is recorded without its batch, which the signature is over; it can be sent
// under a new signature only, and counts as unsendable otherwise.
//
// # Delivery
//
// An order without an answer, and one that the target has no room for now, is sent again, at most
// [Config.Tries] times in all; then it is lost. A door recognises the copy by its id, a builder is told
// that it may be one.
//
// # Shutdown
//
// When the context ends nothing more is sent; what is on the wire is waited for, at most
// [Config.Drain], and the report says that it is not complete.
package replay
