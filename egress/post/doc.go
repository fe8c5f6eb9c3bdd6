// Package post makes the requests that bring orders to builders and to peers: one signed JSON-RPC call per order, with
// FlowProxy's headers and the signature of our own order-flow key, over HTTP. It says what an answer means; when to
// send again is decided by package egress.
//
// # Delivery
//
// The body goes out byte for byte. It is signed once per order and form, whatever the number of attempts and
// receivers.
//
// A request of which not a byte was written, because the other side had given the connection up, goes out on another
// connection. No other request is repeated here: once it is written the receiver may have the order, and package egress
// has to know that.
//
// # Backpressure
//
// Requests go out over package wire, plain or TLS, not over net/http's client: that has two goroutines per
// connection, to which each request and each answer is handed over. Here who sends an order writes the
// request and reads the answer itself.
//
// A receiver's connections are bounded by what its loop may have on the wire; who finds none free waits
// in turn, until its time is up. The end of the context, or the receiver's timeout, ends a request
// wherever it is. Idle connections are given up before a receiver would do it, and looked at before they
// are used: one that has ended, or on which something came that nobody asked for, costs no request.
//
// # Shutdown
//
// Nothing runs here by itself. [Poster.CloseIdle] closes what nobody uses.
package post
