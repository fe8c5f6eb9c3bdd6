package health

import (
	"time"

	"millrace/internal/rpcapi"
)

// cfg is the configuration in force. Under mu it does not change.
func (m *Monitor) cfg() *Config { return m.config.Load() }

// Reload puts another configuration in force, or changes nothing if cfg has a fault. What is known of the nodes stays:
// who is ejected stays so, though for no longer than Config.EjectMax from now, and who returns goes on with its share.
// All are checked at once, so that new thresholds and another chain show. What checks alone had found out goes when
// there are no such checks any more: heads with ModeNetVersion and ModeNone, with ModeNone their faults, too, which
// nothing else would take back.
func (m *Monitor) Reload(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	before, now := m.cfg(), time.Now()
	m.config.Store(&cfg)
	if cfg.ChainID != 0 {
		m.chain = cfg.ChainID
	}
	for _, n := range m.nodes {
		if last := now.Add(cfg.EjectMax); n.ejectedUntil.After(last) {
			n.ejectedUntil = last
		}
		if cfg.Check != before.Check {
			n.recheck(cfg.Check, now)
		}
	}
	if cfg.Check != before.Check && !cfg.Check.tellsHeads() {
		m.turn(rpcapi.Head{})
	}
	m.review(now)
	nudge(m.look)
	nudge(m.reset)
	return nil
}

// recheck forgets what checks of another kind will not say again.
func (n *node) recheck(mode Mode, now time.Time) {
	if mode.tellsHeads() {
		return
	}
	n.chain, n.knows, n.head, n.heard, n.finalized, n.syncing = 0, 0, block{}, time.Time{}, 0, false
	if mode != ModeNone {
		return
	}
	n.checked, n.good, n.bad, n.lastError = true, 0, 0, ""
	if n.fault != "" {
		n.fault = ""
		if n.ejectedUntil.IsZero() {
			n.full(now)
		}
	}
}
