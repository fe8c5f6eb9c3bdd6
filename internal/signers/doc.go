// Package signers remembers which transactions were checked, so that a transaction that comes again,
// in another bundle or at another worker, costs a SHA-256 and a lookup instead of a signature
// recovery.
//
// An entry means: exactly these bytes passed [order.Rules].Check under one fork. The key is SHA-256
// over the network encoding, mixed with the fork and, where it matters, with how the transaction
// was sent, so nothing but the bytes themselves can ever hit it. Only success is remembered.
//
// # Sharing
//
// What one process learns it tells the others, in batches of up to 64 entries or 1 ms, as core
// messages that are never stored. A wrong entry would forge a sender, so each batch carries an
// HMAC-SHA256 under a secret that the processes share; without a secret nothing is sent and
// nothing is taken. One in a thousand hits on what another process told is checked again; when it
// was wrong, everything from that process is forgotten and refused from then on, and an error is
// logged. This guards against a faulty process; who holds the secret and lies can come back under
// another name.
//
// # Backpressure
//
// The cache holds a fixed number of entries and forgets what is used least. Entries that wait to
// be told are bounded too; when they are full, fresh ones are dropped and counted: the other
// processes then recover by themselves.
package signers
