// Package rpcapi has the words that the gateway's doors (ingress/rpc) and its nodes (egress/nodes) share: a call
// and its class, an answer, the node that gave it, and why a call failed. It does no I/O.
//
// A [Call] carries the caller's bytes, which reach the node unchanged. What is known about them, the method, the
// block that they need, is beside them and empty where nobody looked: a door of the prio dialect reads nothing.
//
// [Lookup] knows of each method what may be done with a call of it, which block it reads ([Method.Block]) and which
// parameters ask the same ([Method.Canonical]); [Worst] judges a body that nobody has read. Parameters are read as
// views: what is not understood is neither an error nor shared. The nesting that is followed is bounded, and so is the
// size of what is made canonical; a caller's bytes are never written to.
//
// Errors are sentinels whose texts clients of prio-load-balancer and axon-proxy know. Each has a [Reason], the
// closed set for metrics, logs and X-LB-Error; [ReasonOf] maps any chain to one.
package rpcapi
