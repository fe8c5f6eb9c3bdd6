package feed

import (
	"sync"

	"millrace/internal/rpcapi"
)

// group is the clients of one subscription.
type group struct {
	spec    spec
	metrics *kindMetrics
	// changed says that members came or went; it holds one.
	changed chan struct{}
	// steps is the chain's changes that the logs are still to be derived from; when it is full, the members are
	// ended. Nil where nothing is derived.
	steps chan step

	mu      sync.Mutex
	members map[*member]struct{}
}

// member is one client of a group.
type member struct {
	group   *group
	deliver rpcapi.Deliver
	// after is the last step before the client came.
	after uint64
}

// always is the sequence of results that no step of the chain led to.
const always = ^uint64(0)

func newGroup(s spec, m *kindMetrics, steps int) *group {
	g := &group{spec: s, metrics: m, changed: make(chan struct{}, 1), members: make(map[*member]struct{})}
	if s.kind == kindLogs {
		g.steps = make(chan step, steps)
	}
	return g
}

func (g *group) join(deliver rpcapi.Deliver, after uint64) *member {
	m := &member{group: g, deliver: deliver, after: after}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.members[m] = struct{}{}
	g.metrics.clients.Inc()
	g.tell()
	return m
}

// Close ends the member's subscription; see [rpcapi.Subscription].
func (m *member) Close() {
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	m.group.remove(m)
}

// remove is called with the lock held.
func (g *group) remove(m *member) {
	if _, ok := g.members[m]; !ok {
		return
	}
	delete(g.members, m)
	g.metrics.clients.Dec()
	g.tell()
}

func (g *group) tell() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

func (g *group) empty() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.members) == 0
}

// fan delivers one result to all members that were there before the step that led to it. Who has no room is out.
func (g *group) fan(result []byte, sequence uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for m := range g.members {
		switch {
		case m.after >= sequence:
		case m.deliver(rpcapi.Notification{Result: result}):
			g.metrics.delivered.Inc()
		default:
			g.metrics.slow.Inc()
			g.remove(m)
		}
	}
}

// end ends the subscriptions of all members.
func (g *group) end(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for m := range g.members {
		m.deliver(rpcapi.Notification{Err: err})
		g.metrics.ended.Inc()
		g.remove(m)
	}
}

// push hands a step to the group's derivation.
func (g *group) push(s step) {
	select {
	case g.steps <- s:
	default:
		g.end(rpcapi.ErrSubscriptionGap)
	}
}
