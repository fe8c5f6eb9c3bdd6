// Package nodes sends calls to execution nodes: it knows the set of them, waits for a place at one that may serve
// the call, makes the call, judges the answer, and asks another node where that is allowed and of use.
//
// # Delivery
//
// A call is made by its own goroutine, with the caller's bytes, at most gateway.max_tries times. A failure is a
// connection that fails, no answer within gateway.node_timeout, or a status of 400 or more; a JSON-RPC error is an answer.
// What may be sent again depends on what it does (rpcapi.Safety): reads, and eth_sendRawTransaction, whose repeats
// nodes know; anything else only if not a byte of it had left. The next try goes to another node if there is one, and
// to the head of its class. Requests to one node (filters) are never answered by another; when that one does not answer,
// the filter is gone.
//
// With gateway.hedge_after a read that takes longer is asked of a second node, if one has a place; the first answer counts.
//
// # Health
//
// The set is watched by egress/nodes/health: its verdicts decide who is given calls, and every call's end is one of
// its observations. A node that proves nothing although its URI demands it (TDX_, SGX_, SEV_) is never in the set.
//
// # Backpressure
//
// Calls beyond the places of all nodes wait in egress/nodes/dispatch, by class, up to that class's cap and
// gateway.queue.timeout. An answer is bounded by gateway.max_answer.
//
// # Reload
//
// Pool.Reload changes everything but gateway.drain, and Pool.Set the nodes, while calls wait and run. Neither takes a
// call out of its queue or cuts one that is under way: a smaller queue and a node with fewer places refuse what comes
// until enough of what they have is done.
//
// # Shutdown
//
// When the context of Run ends, calls that wait and run have gateway.drain; new ones are refused.
package nodes
