package bus

import "millrace/internal/bus/upkeep"

// hasOrders reports whether orders may come here: not where the Engine API, or a gateway, is alone with a server that
// nobody else reaches. Looking for them all the time would cost it more than its own idle work, and it makes no streams
// for them.
func (c *Config) hasOrders() bool { return c.Role != "engine" && c.Role != "gateway" || c.Listen != "" }

// sees keeps a role from reading orders that are none of its business: a door or a delivery on its own
// asks how far the workers are and how old the ends of IN are, but not for an order of it, and a server that knows
// its users would refuse it.
func (c *Config) sees(l *upkeep.Backlog) *upkeep.Backlog {
	if c.keepsHouse() {
		return l
	}
	return l.Blind()
}
