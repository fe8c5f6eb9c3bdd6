// Package gateway is what the gateways of one bus keep there: the nodes that were added or removed at run time
// ([Nodes]), what they tell each other of their limits ([Gossip]), and calls that any of them may serve ([Queue]).
//
// # Nodes
//
// [Nodes] has one entry per URI, which outlives every process and which all of them watch. The nodes in use are the
// configured ones and those of the entries, without the URIs of entries that say Removed: a removal is an entry of its
// own, so it takes a configured node out on all gateways and after restarts, whichever of them has it configured.
// Adding the URI again ends that. The oldest removals go when there are more than [MaxRemoved] of them.
//
// # Delivery
//
// A call is stored in memory, in the stream of its class, until a gateway that has a free place takes it: FAST, HIGH
// and LOW are asked in the serving order each time, and one call is taken at a time. It is acknowledged when its answer
// was sent. When the gateway that has it dies, it is handed to another one, once, and is run again if it is repeatable;
// otherwise its caller hears rpcapi.ErrUnreachable. A caller that goes away takes its call back. An answer is sent to
// the caller's process over core NATS, in parts where it exceeds a message; one that is lost is found out by silence:
// who serves a call says each second that it is at work.
//
// # Backpressure
//
// A stream that is full refuses calls: rpcapi.ErrQueueFull, for its class alone. A call that nobody took within the
// queue's timeout is rpcapi.ErrQueueTimeout. A serving gateway takes only what it has a place for.
//
// # Shutdown
//
// When the context of [Queue.Serve] ends it takes no more calls, finishes those it has, and returns.
package gateway
