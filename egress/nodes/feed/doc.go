// Package feed is eth_subscribe over many nodes: it subscribes at one node for all clients, goes on at another when
// that one fails, and fills what was missed in between.
//
// # Delivery
//
// newHeads: the chain is followed at one node at a time, its source, whether anybody listens or not. Clients get
// every canonical header once and in order: what the source did not announce is fetched by its hash from any node
// until it joins what they have. After a reorganisation they get the headers of the new branch from the common
// ancestor on, as from geth. A source that has just been chosen and is still below what clients have seen is not
// believed about another branch. Headers have no transactions, wherever they came from.
//
// logs: derived from the chain. Each new block is asked for once for all clients with equal filters, unless its
// bloom filter says that it has nothing for them. When blocks are dropped, what was delivered of them comes again
// with removed: true, newest first, and then the logs of the new branch. A filter's fromBlock and toBlock bound
// the blocks, blockHash is not looked at, both as at geth.
//
// newPendingTransactions (hashes, or objects with true) and syncing: passed on from one node; after a change of the
// node what was already said is left out as far as a bounded memory knows. What is missed during the change is not
// made up for: nobody promises a pool's completeness.
//
// When a gap can't be filled, because more than max_gap blocks are missing, or the logs of a block are nowhere to be
// had within a minute, the subscriptions concerned end with [rpcapi.ErrSubscriptionGap]; the door closes their
// connections. Nobody is left with a silent gap.
//
// # Backpressure
//
// Delivery never waits: a client's bounded queue is its [rpcapi.Deliver], and who has no room is left out for good.
// Between the chain and the logs of one filter lie at most queue_steps changes of the chain; when they are full the
// filter's clients are ended. An upstream subscription holds at most queue_results results; when they are full it
// is made anew, with the gap filled. Distinct subscriptions are bounded by max_groups.
//
// # Shutdown
//
// Run ends all subscriptions with [rpcapi.ErrStopping], closes the WebSockets of the nodes and returns when all its
// goroutines have ended. Subscribe fails before and after Run.
package feed
