package health

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"millrace/internal/retry"
)

// fault is what is wrong with a node that answered, compared with the others.
func (m *Monitor) fault(r *report, head block, now time.Time) (Reason, string) {
	m.settleChain()
	if r.chain != 0 && m.chain != 0 && r.chain != m.chain {
		return ReasonWrongChain, fmt.Sprintf("chain id %d, expected %d", r.chain, m.chain)
	}
	if r.knows != tellsHead {
		return "", ""
	}
	if r.syncing {
		return ReasonSyncing, fmt.Sprintf("syncing at block %d", head.number)
	}
	if age := now.Sub(head.at); m.cfg().MaxHeadAge > 0 && !head.at.IsZero() && age > m.cfg().MaxHeadAge {
		return ReasonStaleHead, fmt.Sprintf("head %d is %s old", head.number, age.Round(time.Second))
	}
	if m.cfg().MaxLag > 0 {
		best, ok := agreed(m.claims((*node).fresh, now), m.within(), m.Head())
		if ok && best.Number > head.number+m.cfg().MaxLag {
			return ReasonLagging, fmt.Sprintf("head %d, others are at %d", head.number, best.Number)
		}
	}
	return "", ""
}

func (m *Monitor) within() uint64 {
	if m.cfg().MaxLag == 0 {
		return agreement
	}
	return m.cfg().MaxLag
}

// settleChain finds the chain that most nodes are on. Of equally many the one of before stays, else it is the first
// node's.
func (m *Monitor) settleChain() {
	if m.cfg().ChainID != 0 {
		return
	}
	votes := make(map[uint64]int, 1)
	for _, n := range m.nodes {
		if n.chain != 0 {
			votes[n.chain]++
		}
	}
	for _, n := range m.nodes {
		if n.chain != 0 && votes[n.chain] > votes[m.chain] {
			m.chain = n.chain
		}
	}
}

// fresh: its head was told not long ago, and it is not on its way to the others.
func (n *node) fresh(c *Config, now time.Time) bool {
	return !n.syncing && now.Sub(n.heard) <= time.Duration(c.Fall+1)*(c.Interval+c.Timeout)
}

func (n *node) used(*Config, time.Time) bool { return n.use() }

// claims are what the nodes on the right chain that pass which say of it.
func (m *Monitor) claims(which func(*node, *Config, time.Time) bool, now time.Time) []claim {
	var claims []claim
	for _, n := range m.nodes {
		if n.knows == tellsHead && !n.heard.IsZero() && (n.chain == 0 || n.chain == m.chain) && which(n, m.cfg(), now) {
			claims = append(claims, claim{number: n.head.number, hash: n.head.hash, finalized: n.finalized})
		}
	}
	return claims
}

// passed counts a good check. It is what lets a node back.
func (m *Monitor) passed(n *node, now time.Time) {
	n.good, n.bad = n.good+1, 0
	first := !n.checked
	n.checked = true
	if n.fault != "" && (first || n.good >= m.cfg().Rise) {
		if !first {
			n.ejectedFor = n.fault
		}
		n.fault = ""
		if n.ejectedUntil.IsZero() {
			n.back(m.cfg(), now)
		}
		if first {
			n.full(now)
		}
	}
	if n.current() == Ejected && (!now.Before(n.ejectedUntil) || m.count(Healthy) == 0) {
		n.back(m.cfg(), now)
	}
}

// failed counts a bad one. Answers of another chain are wrong ones: of them one is enough.
func (m *Monitor) failed(n *node, fault Reason, text string) {
	n.good, n.bad = 0, n.bad+1
	n.lastError = text
	if !n.checked || n.fault != "" || n.bad >= m.cfg().Fall || fault == ReasonWrongChain {
		n.fault = fault
		n.out()
	}
	n.checked = true
}

func (m *Monitor) count(s State) int {
	k := 0
	for _, n := range m.nodes {
		if n.current() == s {
			k++
		}
	}
	return k
}

// review draws the conclusions of what time and checks did, and tells those that are new.
func (m *Monitor) review(now time.Time) {
	m.ripen(now)
	m.settleChain()
	claims := m.claims((*node).used, now)
	if len(claims) == 0 {
		claims = m.claims((*node).fresh, now)
	}
	if h, ok := agreed(claims, m.within(), m.Head()); ok {
		m.turn(h)
	}
	m.tell(now)
}

// eject takes nodes out whose calls go wrong.
func (m *Monitor) eject(now time.Time) {
	windows := make([]tally, len(m.nodes))
	slow := make([]time.Duration, len(m.nodes)) // 0: too few calls
	for i, n := range m.nodes {
		n.history.turn(&n.counters, m.cfg().Window, now)
		windows[i] = n.history.window(&n.counters)
		if m.enough(windows[i].timed()) {
			slow[i] = windows[i].percentile(slowShare)
		}
	}
	for i, n := range m.nodes {
		if !n.use() {
			continue
		}
		why := m.complaint(n, &windows[i], now)
		if why == "" && slow[i] > m.cfg().Slow {
			if peers := median(slow, i); peers > 0 && float64(slow[i]) > m.cfg().SlowFactor*float64(peers) {
				why = ReasonSlow
			}
		}
		if why == "" {
			continue
		}
		if why != ReasonRefused && !m.mayEject() {
			if n.current() == Returning {
				n.returnedAt = now
			}
			continue
		}
		n.ejectedUntil = now.Add(retry.Backoff(n.ejected, m.cfg().EjectMin, m.cfg().EjectMax))
		n.ejected++
		n.ejectedFor = why
		n.ejectionTotal[why]++
		n.out()
	}
}

// slowShare is the part of calls whose latency is looked at.
const slowShare = 0.7

func (m *Monitor) enough(n uint64) bool { return n >= uint64(m.cfg().MinSamples) } //nolint:gosec // positive

// complaint is what calls say against a node, apart from being slow.
func (m *Monitor) complaint(n *node, w *tally, now time.Time) Reason {
	if n.streak.Load() >= uint64(m.cfg().Failures) { //nolint:gosec // positive
		return ReasonRefused
	}
	if n.current() == Returning {
		if o, ok := n.takeRelapse(now); ok && o == Refused {
			return ReasonRefused
		} else if ok {
			return ReasonRelapse
		}
	}
	if !m.enough(w.samples()) {
		return ""
	}
	if w.rate(w.errors()) > m.cfg().ErrorRate {
		return ReasonErrorRate
	}
	if w.rate(w.outcomes[Throttled]) > m.cfg().Throttled {
		return ReasonThrottled
	}
	return ""
}

// mayEject: one more may be out, for whatever reason the others are.
func (m *Monitor) mayEject() bool {
	out := m.count(Ejected) + m.count(Unhealthy)
	return float64(out+1) <= m.cfg().MaxEjected*float64(len(m.nodes))
}

// median is the middle one of the others that are known, the larger one of two.
func median(all []time.Duration, but int) time.Duration {
	var known []time.Duration
	for i, d := range all {
		if i != but && d > 0 {
			known = append(known, d)
		}
	}
	if len(known) == 0 {
		return 0
	}
	slices.Sort(known)
	return known[len(known)/2]
}

// ripen is what time alone does.
func (m *Monitor) ripen(now time.Time) {
	for _, n := range m.nodes {
		switch n.current() {
		case Ejected:
			if m.cfg().Check == ModeNone && !now.Before(n.ejectedUntil) {
				n.back(m.cfg(), now)
			}
		case Returning:
			if now.Sub(n.returnedAt) >= m.cfg().ReturnTime {
				n.full(now)
			}
		case Healthy:
			if now.Sub(n.fullSince) >= m.cfg().EjectMax {
				n.ejected = 0
			}
		default:
		}
	}
	// A small share is for nodes whose peers can take the rest.
	if m.count(Healthy) > 0 {
		return
	}
	for _, n := range m.nodes {
		if n.current() == Returning {
			n.full(now)
		}
	}
}

// tell logs new states and passes new verdicts on.
func (m *Monitor) tell(now time.Time) {
	for _, n := range m.nodes {
		if s := n.current(); s != n.state && n.fault != ReasonUnchecked {
			m.logState(n, s, now.Sub(n.since))
			n.state, n.since = s, now
		}
		v := Verdict{Healthy: n.use(), Share: n.share(m.cfg(), now)}
		if n.knows == tellsHead {
			v.Height = n.head.number
		}
		if !n.judged || v != n.told {
			n.told, n.judged = v, true
			m.judge(n.tag, v)
		}
	}
}

func (m *Monitor) logState(n *node, s State, after time.Duration) {
	log := m.log.Info
	if s == Ejected || s == Unhealthy {
		log = m.log.Warn
	}
	log("node changed state",
		slog.String("node", n.label), slog.String("state", s.String()), slog.String("reason", string(n.reason())),
		slog.String("last_error", n.lastError), slog.Duration("after", after))
}
