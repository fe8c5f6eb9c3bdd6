// Package builder delivers orders to block builders over HTTP: one JSON-RPC request per order, with
// FlowProxy's headers and the signature of our own order-flow key. It says what an answer means; when
// to send again is decided by package egress.
//
// The body goes out byte for byte as a worker made it. It is signed once per order, whatever the
// number of attempts and builders.
//
// [Stub] is a builder that only counts: what `millrace node` delivers to when none is configured.
package builder
