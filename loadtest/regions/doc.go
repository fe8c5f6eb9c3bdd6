// Package regions is the network between the nodes of a load test: all of them run on one machine,
// and each pair is as far apart as a [Topology] says. A node that dials a peer is given the address of
// a link instead of the peer's own; what it sends there takes the delay, the jitter and the bandwidth
// of that direction, and a [Scenario] cuts, slows, flaps and resets links while the test runs.
//
// # Links
//
// There is a link for each pair of nodes and each side that dials. What goes from one node to another
// shares one bandwidth, on however many connections; the answers share that of the other direction.
// A connection is a toxiproxy link with two toxics of our own: toxiproxy's latency is whole
// milliseconds, its bandwidth is by connection, and changing either while data passes is a data race.
//
// # What is emulated, and what is not
//
// A delay is never shorter than asked, and longer by what the timers of the process are late: about a
// millisecond on an idle machine, which is why [Network.Probe] measures a TCP echo through the same
// link, to be taken off. Bandwidth is a queue: what comes faster waits, and when half a second of it is
// waiting, the sender does. A partition keeps what was sent and delivers it when it ends, in order, as
// TCP does with its repeats, but at once: the pause between TCP's repeats, which can double an outage,
// is not emulated, nor are packet loss, slow start, and the round trip that opens a connection. A reset
// closes both ends at once, what is on its way is gone.
//
// # Shutdown
//
// [Network.Run] blocks until its context ends, then closes every connection, partitioned or not, and
// returns when nothing of it runs any more.
package regions
