// Package ingress is the order door: it takes signed JSON-RPC orders over HTTP, names and
// classifies them, has them stored, and answers with the worker's verdict when it comes in time.
//
// # Delivery
//
// A success means stored: the answer is written only after the store's acknowledgement. An order
// that was not stored is not remembered as seen, so its sender may simply send it again. A repeat
// joins the outcome of the first call, also while that call is still under way; a repeat of a
// refused order is refused again without being stored.
//
// # Backpressure
//
// Everything a client can make grow has a bound, and meeting it is an answer, never silence:
// connections, request rate and stored bytes per source address, bytes of bodies in flight, callers
// waiting for the CPU, orders per entity, backlog age per class. Low priority is refused first; a
// cancel is never shed before what it cancels.
//
// # Errors
//
// One place, fault.go, turns a failure into this table. Codes, texts and statuses are FlowProxy's
// where it has the case; the reason is in error.data. 429 and 503 carry Retry-After. With dialect
// v1 every JSON-RPC error has HTTP status 200.
//
//	case                                     code    message              HTTP  id
//	bad JSON, id, envelope or gzip           -32700  Parse error          400   null
//	jsonrpc is not "2.0", empty/large batch  -32600  Invalid Request      400   null
//	signature missing or wrong               -32603  Invalid signature    400   null
//	unknown method                           -32601  Method not found: X  404   echoed
//	order refused, here or by a worker       -32602  Invalid params       400   echoed
//	entity or source address over its rate   -32603  Rate limited         429   null or echoed
//	class shed, CPU or body bytes exhausted  -32603  Overloaded           503   null or echoed
//	store full, door closed by disk guard    -32603  Disk full            503   null or echoed
//	replay mark refused (ForReplays)         -32603  Invalid replay credential  403  null
//	store does not answer, anything else     -32603  Internal error       503   echoed
//	nobody tells what became of orders now   -32000  Order status unavailable  503  echoed
//	body too slow                            -32603  Request timeout      408   null
//	body above ingress.max_body              plain text                   413
//	other path, other HTTP method            empty                        404, 405
//
// [Status] is asked by millrace_orderStatus: signed as every call, answered for the signer's own orders
// only, so that another's order and no order look the same (a null result).
//
// In a batch each element has its own answer, in order, and the HTTP status is 200; only what
// concerns the whole body (signature, parse, limits) is answered once. FlowProxy answers 500 for a
// full disk; here it is 503, because a sender should come back.
//
// # Shutdown
//
// When Run's context ends, /readyz turns 503, the door keeps serving for ingress.drain_delay so
// that load balancers notice, then it stops accepting and finishes what is in flight.
package ingress
