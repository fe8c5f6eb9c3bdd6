// Package peers is the exchange of orders with other operators: a [Receiver] makes what a peer sent an order of ours,
// and a [Sender] delivers our own orders to peers that speak the first proxy's protocol, signed JSON over HTTPS. What
// goes over leafnodes is fetched by the peer itself and needs no sender.
//
// # Trust
//
// A peer is known; what it says is not believed. The Receiver reads the body anew, within bounds, and computes id, key,
// hash, kind, method, replacement, nonce and target block from it, never from the peer's claims. It writes the
// builder-ready form anew, so that nothing of the peer's envelope and not its bundleHash reach a builder; of an honest
// peer that is the same bytes. Claims count for three things, in which they can only hurt the peer's own orders:
//
//   - age: an order's life began when the peer received it, as far as the clocks can be compared, and is never longer
//     than orders.max_age from its arrival here;
//   - class: never more urgent than its content allows here, so above 256 KiB never high;
//   - the nonce of an eth_cancelBundle, whose form has none; without a claim it is the time of arrival, above what came
//     before under the same key. A nonce in the body counts as the sender's own: a copy of ours whose nonce our door
//     chose does not suppress it, nor the other way round, so that no peer can put an old submission in the place of a
//     newer one.
//
// The signer of a bundle is the signingAddress in its body, which can't be verified: who signed towards the peer is
// the peer's word. Ours is that replacement state is per origin, so it says nothing about orders of others. A raw
// transaction's id and key are its hash, it replaces nothing, and no decision rests on who sent it; so its signer is the
// one that the peer claims, or none. Recovering the transaction's sender would cost 44 µs to name somebody else.
//
// With peers.revalidate each transaction is checked as our workers check it, on the caller's goroutine: 60 µs, and for
// blobs milliseconds.
//
// # Delivery
//
// [Receiver.Receive] returns nil when the order is stored in OK with the peer as its origin, and a reason when it is
// dropped for good; anything else asks for the same message again. The acceptance is made of the time of arrival and
// the message's key, so a message that comes again after a crash is stored once, or known by the target's loop.
// Delivery to our builders, copies across origins and replacement are those of package egress. Orders of peers are
// not passed on: destinations of this package are owed local orders only.
//
// What is dropped is counted by reason and, as it has no record, kept as ranges ([Receiver.Missed]): first and last key,
// count, times.
//
// A subsidy (bid_subsidiseBlock) is an order of its own kind. It is taken only with order.RightsAll, goes to OK as an
// order from a peer does, and so reaches every builder of ours and no peer, waits for one that is away, and has one
// terminal record per builder. Its life is orders.max_age, or until its block is known to be there. Flashbots' repeat of
// it is a duplicate, as any order's.
//
// # Latency
//
// One-way latency is arrival less the peer's own time of sending, less the offset between the clocks. The offset is
// not measured but bounded: the fastest message of the last half to whole minute can't have taken less than nothing, nor
// more than 250 ms. Within these bounds the clocks are taken as equal; beyond, the offset is what brings that fastest
// message to the bound. So an error of the clocks below the transit time is not seen, and shows up in the latency; of
// a peer whose clock is wrong by more, the latency is what a message took beyond the fastest, plus 0 or 250 ms. That a
// peer's clock is behind is believed only once 16 messages came over at least 10 s, as a peer that comes back sends old
// orders first. A silent peer's offset is kept.
//
// # Backpressure
//
// Receive waits as long as the store is full or away, at most until the order's deadline. What one peer may have stored in a
// while is bounded (peers.max_bytes), so that it can't fill the store for all. A Sender's connections are
// bounded, apart for large and for small orders.
//
// # Shutdown
//
// Nothing runs here by itself; a call ends with its context.
package peers
