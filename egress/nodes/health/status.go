package health

import "time"

// Status is all that is known of the nodes, in their configured order.
func (m *Monitor) Status() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	all := make([]Status, 0, len(m.nodes))
	for _, n := range m.nodes {
		w := n.history.window(&n.counters)
		s := Status{
			Node: n.rpc.Load(), State: n.current(), Reason: n.reason(), Since: n.since, Until: n.ejectedUntil,
			Share: n.share(m.cfg(), now), ChainID: n.chain, Finalized: n.finalized,
			Samples: w.samples(), P50: w.percentile(0.5), P99: w.percentile(0.99),
			ErrorRate: w.rate(w.errors()), LastError: n.lastError,
		}
		if n.knows == tellsHead {
			s.Height, s.HeadAge = n.head.number, n.headAge(now)
		}
		all = append(all, s)
	}
	return all
}
