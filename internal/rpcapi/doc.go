// Package rpcapi has the words that the gateway's doors (ingress/rpc) and its nodes (egress/nodes) share: a call
// and its class, an answer, the node that gave it, and why a call failed. It does no I/O.
//
// A [Call] carries the caller's bytes, which reach the node unchanged. What is known about them, the method, the
// block that they need, is beside them and empty where nobody looked: a door of the prio dialect reads nothing.
//
// Errors are sentinels whose texts clients of prio-load-balancer and axon-proxy know. Each has a [Reason], the
// closed set for metrics, logs and X-LB-Error; [ReasonOf] maps any chain to one.
package rpcapi
