// Package peers is the system door: the HTTP address at which peers of other networks hand us their orders, in the
// first proxy's protocol, JSON-RPC with X-Flashbots-Signature by the peer's order-flow key.
//
// # Delivery
//
// The answer `"result":null` is written once the order is stored (the Receiver port), or was before. A call that fails
// any other way than by the order's own fault may be made again. Each request is an acceptance of its own.
//
// Methods are eth_sendBundle, mev_sendBundle, eth_cancelBundle, eth_sendRawTransaction, and from Flashbots' signer alone
// bid_subsidiseBlock, which goes the way of an order, to our own builders.
//
// # Trust
//
// Who signed is the peer (the Peers port, which may change at any time, or Flashbots). That is asked of the claimed
// address before a byte of the body is read, and proven by the signature over it afterwards. Our own address is no peer's.
// A peer's headers (X-BuilderNet-Priority, X-BuilderNet-SentAtUs, in any spelling) are claims, for the Receiver to
// judge.
//
// # Errors
//
// They are the first proxy's: HTTP 200, code -32000 and a text for what is wrong with an order, -32600 for the signature
// and the size, -32700 and -32601 for the request. With one exception: what is not stored and should be sent again
// (the store is full or away, the door is overloaded or closed) is a 503 with Retry-After, because senders of ours do
// that, and others lose the order either way.
//
// # Backpressure
//
// Bounded are connections, the bytes of all bodies in flight, the size of one, the time in which it must come, and the
// signatures that are verified at a time. Beyond, calls are refused, not queued.
//
// # Shutdown
//
// When Run's context ends, the door turns unready, serves on for Config.DrainDelay, stops accepting, and waits for what
// is in flight, Config.DrainTimeout at most.
package peers
