// Package socket is the WebSocket side of the gateway's doors: requests, batches and subscriptions of one client on
// one connection.
//
// # Delivery
//
// A message is answered by the door's own path, [Calls], as one of HTTP is; replies come in the order in which they
// are ready. eth_subscribe and eth_unsubscribe are answered here, under ids of our own that nobody can guess; in a
// batch they are refused with -32004, the rest of the batch is answered and the reply is one array. The answer to
// eth_subscribe goes out before the subscription's first notification, after the answer to eth_unsubscribe none
// follows. A method's name that is written with escapes is not recognised as one of the two; the door refuses it.
//
// # Backpressure
//
// At most max_calls messages of a connection are under way; then nothing is read from it. Its send queue holds at
// most queue_messages and queue_bytes (one message may be larger, if the queue is empty otherwise). A reply waits for
// room, and keeps its place meanwhile. A notification does not wait: without room the connection is closed with 1008,
// because a subscription with a gap is worse than none. One that takes longer than write_timeout for a message is cut. A connection
// whose subscription ends for another reason is closed with 1013: the client is to come back.
//
// Connections are bounded in all and per IP (of IPv6 per /64), refused with 429 and 503 before the upgrade;
// subscriptions per connection with -32005; messages by their size with 1009.
//
// # Shutdown
//
// When the context of Run ends, upgrades get 503, nothing more is read, the replies under way go out and
// connections are closed with 1001. What has not ended after drain is cut. Then Run returns.
package socket
