// Package builder delivers orders to block builders over HTTP: which builders there are, whether they say that they are
// ready, and what a target of that kind is. The requests are package post's.
//
// # Delivery
//
// A builder is owed every order, ours and peers'. The body goes out byte for byte as a worker made it.
//
// # Backpressure
//
// Is package egress's. Whether a builder says that it is ready informs, and never holds up delivery.
//
// # Shutdown
//
// [Ready] and [Stub] end with their contexts. [Stub] is a builder that only counts: what `millrace node` delivers to
// when none is configured.
package builder
