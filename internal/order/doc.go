// Package order is the domain: what a searcher submits, how it is named, hashed, classified,
// validated and refused. It does no I/O and imports nothing of this module, so the door, the
// workers, the load generator and the tests share one meaning of every word.
//
// # Shape
//
// [Decode] turns one call's parameters into a [Submission], a view over the sender's own bytes.
// An [Order] is a submission's identity and fate beside those bytes: it is what travels.
//
// # Trust
//
// Nothing here trusts its input: decoders are fuzzed, sizes are bounded by [Limits], and every
// refusal is a [*Reason] with a code from a closed set, safe to use as a metric label.
package order
