// Package dispatch matches calls with free places of nodes: who goes first, and where to. It does no I/O and
// knows nodes only as tags with a number of places and a [Standing] that others judge.
//
// A caller blocks in [Dispatcher.Acquire] in its own goroutine, makes its request, and gives the place back with
// [Dispatcher.Release]. Everything happens under one mutex, in the goroutine that caused it; there are no others,
// except that one timer runs while calls wait. A call that finds a free place takes it without any channel.
//
// # Order
//
// Each class has a queue. Which class a freed place serves is prio-load-balancer's rule, exactly, counter
// included: [Config.FastPerHigh] fast-track calls, then a high one; or all fast-track calls first
// ([Config.DrainFast]); low ones when nothing else waits, so that they may starve, unless [Config.LowEvery] gives
// them a share. A call that is served at once counts as if it had passed through its queue. Within a class
// retries ([Front]) go first, in the order in which they came; then the other calls, in that order.
//
// # Choice
//
// A call may be served by a node that has places, has the call's block as far as is known ([Want].Height), and is
// the one that it asks for, if it asks ([Want].Node). Of those only the nodes of the best kind serve it: first
// those that are not to be avoided, and of these first the ones that are not unhealthy. So when all are
// unhealthy all are used, and when all are to be avoided all are used as well; but a call waits for a node that is
// merely busy rather than go to a worse one. A retry avoids the nodes that failed it, and so goes to an unhealthy
// one that was not tried: that one may be back, while it is known that the others failed. Among free nodes [Config.Balance] chooses. With [ByClient] a caller's
// node is preferred, and the next one by score is taken only while that one is unhealthy or has no free place;
// the call does not wait for it.
//
// A freed place goes to the first call, in serving order, that its node may serve. A call that no node may serve
// stays where it is and holds back nobody. While the head of a queue fits, that costs the same for any length.
// Otherwise a node remembers how far it has looked in vain, so that it looks at a waiting call at most once between
// two changes of the nodes (their set, a state, a height), and once more after each. A node that serves only calls
// with demands does not look while there are none.
//
// [Dispatcher.TryAcquire] is for hedges: it takes a free place or none, and never one of a node
// to avoid or an unhealthy one.
//
// # Deadlines
//
// A call waits until [Config.Timeout] after it was received, wherever in the queue it stands
// ([rpcapi.ErrQueueTimeout]). Without any node it fails at once ([rpcapi.ErrNoNode]). When it has waited for
// [Config.DispatchTimeout], and again after each further one, it fails if no node can serve it: ErrNoNode, or
// [rpcapi.ErrNodeTimeout] if only places are missing. When its context ends it leaves the queue at once; a place
// that it was given in that moment goes to the next call.
//
// # Backpressure
//
// A queue holds at most [Config.Max] calls of its class; when it is full a call fails at once
// ([rpcapi.ErrQueueFull]). A cap counts only calls that wait, and only those of its own class. A retry is never
// refused by it.
//
// # Reload
//
// [Dispatcher.Reload] changes the policy and [Dispatcher.Set] the places while calls wait and run. Neither takes a call
// out of its queue or a place from who has it: a smaller cap refuses those who come, and a node with fewer places is
// given no call until enough of those that are taken came back.
//
// # Shutdown
//
// After [Dispatcher.Stop] new calls fail ([rpcapi.ErrStopping]); calls that wait, retries and hedges are served as
// before. [Dispatcher.Drain] returns when nothing waits and no place is taken. A call between the release of one
// place and its retry is seen by its caller only.
package dispatch
