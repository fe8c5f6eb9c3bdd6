// Package builder delivers orders to block builders over HTTP: one JSON-RPC request per order, with
// FlowProxy's headers and the signature of our own order-flow key. It says what an answer means; when
// to send again is decided by package egress.
//
// The body goes out byte for byte as a worker made it. It is signed once per order, whatever the
// number of attempts and builders.
//
// # Connections
//
// Requests go out over package wire, plain or TLS, not over net/http's client: that has two goroutines per
// connection, to which each request and each answer is handed over. Here who sends an order writes the
// request and reads the answer itself.
//
// A builder's connections are bounded by what its loop may have on the wire; who finds none free waits
// in turn, until its time is up. The end of the context, or the builder's timeout, ends a request
// wherever it is. Idle connections are given up before a builder would do it, and looked at before they
// are used: one that has ended, or on which something came that nobody asked for, costs no request.
//
// A request of which not a byte was written, because the builder had given the connection up, goes out
// on another connection. No other request is repeated here: once it is written the builder may have
// the order, and package egress has to know that.
//
// [Stub] is a builder that only counts: what `millrace node` delivers to when none is configured.
package builder
