// Package rpc is the gateway's HTTP door: it takes JSON-RPC calls on one listener, hands each to the nodes
// (the Caller port) and writes back what a node said.
//
// A door speaks one of two dialects. [DialectPrio] is prio-load-balancer's: a body is opaque, whatever it is,
// and an error of ours is a line of text with status 500, never JSON: who reads our JSON-RPC error as the node's
// takes our overload for a bad block. [DialectJSONRPC] is axon-proxy's: bodies are read as JSON-RPC on every path, and
// every error is a JSON-RPC error. /sim is prio on both.
//
// # Delivery
//
// A node gets the caller's bytes and the caller gets the node's, with these exceptions, all in the jsonrpc dialect:
// the id of a filter names its node, a transaction that the node has already is a success, and of a batch each
// element goes to a node by itself, several at a time and in any order; the answers stand in the order of the
// calls. A notification is sent and waited for, and not answered. A call ends at once when its client goes away.
//
// # Backpressure
//
// Bounded are connections, a body's size, the bytes of all bodies in flight, the calls of a batch and how many of
// them are under way at once. Too many bytes are answered as a full queue is. How many calls wait for nodes is the
// Caller's bound.
//
// # Errors
//
// fault.go turns every failure into its two forms. Each carries X-LB-Error with the reason, which is in error.data
// too; the texts are the sentinels' of rpcapi and never a wrapped error's, which may hold a node's address. What a
// node itself said with a status of 400 or more is passed on with that status by prio, and by jsonrpc when it is a
// JSON-RPC error.
//
// # Shutdown
//
// When Run's context ends, Ready fails first; the door serves on for Config.DrainDelay and asks clients to close
// their connections. Then it stops accepting and waits for all that is in flight, WebSockets too, Config.Drain at
// most; the contexts of what is left then end, and who still listens is told that the door shuts down.
package rpc
