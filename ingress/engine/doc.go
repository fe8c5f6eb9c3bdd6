// Package engine is the Engine API door: the consensus client talks to it as if it were the primary
// execution client, and gets the primary's answers byte for byte. Every call is handed to a recorder
// on its way; who reads the record, and how far behind, is never felt here.
//
// # Bytes
//
// The request's body reaches the primary unchanged, and so do its end-to-end headers but for Host,
// Accept-Encoding and Authorization. The answer's status, headers and body come back unchanged. Two
// things are added, both with a switch or a cause of their own: the secondaries' entries of
// engine_getClientVersionV1, appended to the primary's as the specification demands of a
// multiplexer (engine.client_versions), and a JSON-RPC error -32603 under the caller's own id when
// the primary is unreachable (502) or too slow (504). No answer is ever invented or cached.
//
// # Authentication
//
// With engine.auth "verify" the token is checked here, with geth's statuses and texts, and each call
// carries a token of our own, signed with the target's secret and issued now. With "forward" the
// caller's token is passed on and the primary judges it; a call without any is refused here. A
// forwarded call is recorded as not verified, so nobody replays it before the primary has answered
// 200. WebSockets show their token once and live longer than it does, so they need "verify". Keep a
// forwarding door's listener private: whoever reaches it can fill the record with refused calls.
//
// A forwarded token that the primary took is kept in memory for secondaries without a secret (LiveToken), one
// at a time, at most until 55 s after it was first taken and after its own time of issue. No token is stored, recorded or logged.
//
// # Answered here
//
// As geth does it on its own authenticated port, in this order:
//
//	other path                            404  empty; "not found" for an upgrade
//	token missing or refused              401  geth's text
//	GET without query or body             200  empty
//	PUT, DELETE                           405  method not allowed
//	Content-Length above 128 MiB          413  content length too large (n>m)
//	content type other than JSON          415  invalid content type, only application/json is supported
//	batch of more than 2000               200  JSON-RPC -32600, batch too large
//	body that stops coming                200  JSON-RPC -32700, read timeout or read error
//
// and, of our own: 413 for a chunked body above the limit, 503 when engine.inflight_bytes is
// exhausted or the door is stopping. The Host header is not checked: the token is what protects.
// Everything else, also what is no JSON, goes to the primary.
//
// # Order
//
// Calls that move the client's state (newPayload, forkchoiceUpdated, and whatever can't be read) get
// their sequence under the lock that sends them: it is held until the request is written, at most
// sendHold. Other calls only take a number. A replay to the primary passes the same lock and is
// dropped with ErrOvertaken when a live call was dispatched since it was decided, or is under way, or
// when it was decided for an earlier primary. A
// live forkchoice that meets a replayed one in flight waits for its end, at most overtakeWait, and
// then cuts it off; the primary serialises forkchoices anyway.
//
// # Delivery
//
// A call to the primary does not end with the caller's connection: its outcome is recorded whatever
// becomes of the caller. Request is recorded at dispatch, Outcome after the answer was sent. A call
// that found its kept-alive connection closed is sent once more, a state-moving one only if nothing
// came after it. When bytes of it have left, only calls that are known to be safe are
// (engineapi.Repeatable): an unknown method never is, nor a body that can't be read.
//
// # Backpressure
//
// Bounded are connections, bytes of bodies in flight (engine.inflight_bytes), calls per WebSocket
// (then its reader waits), calls under way to one client (more wait in turn), an answer's size, remembered payload ids and version entries.
//
// # Shutdown
//
// When Run's context ends the door stops accepting, finishes what is in flight within
// engine.drain_timeout and then cuts the rest off, whose outcomes are recorded as unknown.
package engine
