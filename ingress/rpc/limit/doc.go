// Package limit bounds how many calls clients may make: each address (an IPv6 /64 counts as one), each API key and
// everybody together, in total and for single methods. All that are set apply; a call that one of them refuses counts
// for none. A limit is so many calls in any stretch of its window, at whatever spacing; it is off unless it is set.
// Whose the address is says internal/clientip; a key counts for whoever the door found it to belong to.
//
// # Sharing
//
// Processes of one gateway share each limit without asking anybody while a call waits. Every [Tick] a process tells
// the others, over [Gossip], what it admitted of the subjects in demand, what it claims of their limits, and what was
// wanted of it; nothing but a sign of life each second while there is no traffic. Until it knows better, each of n
// processes has 1/n of a limit. Then the claims follow demand: a process lowers its bound at once, and raises it two
// ticks after it said so, by what the others neither claim nor have used. So the bounds add up to the limit but for
// messages that were lost, and a limit that one process alone is asked for is nearly all its own after three ticks.
// Bounds are whole calls, rounded: of a limit of one, two processes asked in the same moment may admit one each.
//
// # Failure
//
// It fails open: a process that hears nobody has the whole of every limit. That the gossip does not work is counted in
// millrace_gateway_limit_gossip_failures_total, and millrace_gateway_limit_peers says how many are heard.
//
// # Memory
//
// Addresses and keys are forgotten when they were idle for two windows. There are never more of each than
// [Config.Clients]; beyond, the least recently used go, and with them what they had used up. What is heard from others
// has bounds too: so many peers, so many subjects of each.
//
// # Shutdown
//
// [Limiter.Run] takes leave of the others when its context ends; they share the limits among themselves from then on.
package limit
