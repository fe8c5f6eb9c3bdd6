// Package loadtest sends signed orders to an order door, receives them as the builder behind it,
// and judges what happened in between. It talks HTTP only, so the same run can be held against any
// other order-flow proxy.
//
// # Identity
//
// Every generated order carries a [Tag] where all proxies keep it (a reverting hash of a bundle, the
// calldata of a transaction), so the [Sink] knows which order it got without decoding it and without
// trusting any id that the proxy computed. Results, receipts and ledger records meet in [Check].
//
// # Load
//
// The corpus is a function of its seed: order n is the same bytes in every run, on any number of
// cores. Signing happens ahead of the schedule in a bounded [Feed]. An open-loop flow sends at
// intended times whatever the answers do; the latency of an order that found no free connection
// counts from its intended time, a late wake-up of the generator does not count. A closed-loop flow
// sends when the answer before came.
//
// # Shutdown
//
// [Run] and every Run method here block until their context ends or their work is done, and return
// when all their goroutines have.
package loadtest
