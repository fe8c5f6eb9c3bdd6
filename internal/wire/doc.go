// Package wire is a small HTTP/1.1 client for calls whose latency counts: whoever makes a call writes the
// request and reads the answer itself, over connections that this package keeps. net/http's client has two
// goroutines per connection, to which each request and each answer is handed over, and is for much that
// is not needed here: proxies, redirects, HTTP/2, answers that come while the body is still being written.
//
// What is hard about HTTP is still net/http's: [net/http.Request.Write] makes the constant part of a request's
// head once ([NewHead]), [net/http.ReadResponse] knows the rules for lengths, chunks, trailers and
// connections. Headers that differ from call to call are added with [AppendHeader], which takes no value
// that could end its line.
//
// # Delivery
//
// A [Peer] has the connections to one URL's host. [Peer.Do] makes a call. It writes a request once more only if a
// connection that was used before took not a byte of it; whether bytes had left is in [Sent], so that the
// caller can decide on a repeat. [Peer.Take], [Peer.Put] and [Peer.Drop] are for callers who want more than that:
// the time of the first byte, an answer that is borrowed, not copied.
//
// The end of the context, or the deadline, ends a call wherever it is. What came unasked on an idle connection is
// no answer: idle connections are looked at before they are used.
//
// # Backpressure
//
// Connections are bounded by [Config.MaxConns]; who finds none free waits in turn, until its time is up. An answer's
// head and body are bounded. An idle connection keeps some 130 KiB at most, whatever went over it.
//
// # Shutdown
//
// [Peer.Close] ends idle connections; one in use ends with its call. Goroutines are started for making
// connections only, and end within twice [Config.ConnectTimeout].
package wire
