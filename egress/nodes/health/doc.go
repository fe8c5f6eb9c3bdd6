// Package health knows which execution nodes of the gateway may be given calls, how much, and where the chain is.
// A [Monitor] asks nodes (active checks), listens to how calls went (passive: [Monitor.Observe]) and tells a
// [Verdict] of each node whenever it changes. It never decides that no node may be used: who hears that all are
// unhealthy uses all of them.
//
// # Checks
//
// Every Config.Interval a node is asked for its chain id, its latest and its finalized block, and whether it syncs:
// one batch, or single calls where a batch is refused. Config.Fall bad checks in a row make it unhealthy, Config.Rise
// good ones healthy again; the first check counts at once, and so does another chain's id. The right chain is
// Config.ChainID, or else what most nodes say. A node that knows none of these methods (a simulator) is asked for
// net_version, where any status below 400 is good, so is a JSON-RPC error with one below 500; such a node has no
// height. [ModeAuto] finds out which kind a node is, and asks again now and then. A node that once gave its head is
// not let off with less.
//
// # Ejection, return: the circuit breaker
//
// There is one mechanism. A node in use is ejected after Config.Failures refused connections in a row, or when of the
// calls in Config.Window (at least Config.MinSamples) too many failed, too many were throttled, or its 70th
// percentile of latency is above Config.Slow and above Config.SlowFactor times the median of its peers. The breaker
// is then open for Config.EjectMin, doubled each time up to Config.EjectMax, half of it random. After that the first
// good check lets it back (without checks: the time alone) with a share of Config.ReturnShare, which grows to 1 in
// Config.ReturnTime; this is the half-open state: one failed call ejects it again. A node that was unhealthy
// returns the same way. A node that stayed in for Config.EjectMax starts from Config.EjectMin again.
//
// Two bounds keep it from making things worse. No node is ejected if more than Config.MaxEjected of all would be out
// then, for whatever reason, unless connections are refused. And while no node is fully in use, a good check lets an
// ejected node back before its time, and nobody's share is below 1.
//
// Canceled calls count nowhere. A status of 4xx but 429 is an answer.
//
// # Heights
//
// A node's height is from its checks and from who subscribed to its heads ([Monitor.Learned]); what came last
// counts, also when it is lower. [Monitor.Head] is the chain as the nodes in use tell it: the highest head of one of
// them which, if three or more tell, another one reaches within Config.MaxLag; of several hashes at that number the
// one that most have. Finalized is the lowest that any of them tells. The head may go back, and its hash may change.
//
// # Concurrency
//
// Observe, Head and Changed take no lock and don't allocate. The rest is under one lock, never held while a node is
// asked. The judge is called under it, one call at a time: it must neither block nor call the Monitor.
//
// # Backpressure
//
// Nothing queues: calls are counted, not kept. There is one check at a time for each node, so a node that hangs delays
// no other.
//
// # Reload
//
// [Monitor.Reload] changes the configuration and keeps what is known; all nodes are checked at once.
//
// # Shutdown
//
// Run ends with its context; checks under way are abandoned and judge no node.
package health
