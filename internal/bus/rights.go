package bus

import "millrace/internal/bus/upkeep"

// sees keeps a role from reading orders that are none of its business: a door or a delivery on its own
// asks how far the workers are and how old the ends of IN are, but not for an order of it, and a server that knows
// its users would refuse it.
func (c *Config) sees(l *upkeep.Backlog) *upkeep.Backlog {
	if c.keepsHouse() {
		return l
	}
	return l.Blind()
}
