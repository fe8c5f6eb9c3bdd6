package main

import (
	"errors"

	"millrace/internal/bus/peerlink"
	"millrace/internal/discovery"
)

// Peers is the exchange of orders with other operators.
type Peers struct {
	Link       peerlink.Config  `embed:""`
	Discovery  discovery.Config `embed:""`
	Revalidate bool             `name:"revalidate" help:"Check the transactions of peers' orders against the consensus rules, as those of our own senders are."`
}

// enabled reports whether there can be peers.
func (p *Peers) enabled() bool { return p.Link.Enabled() }

// Validate reports every fault.
func (p *Peers) Validate() error {
	errs := []error{p.Link.Validate()}
	if p.enabled() {
		errs = append(errs, p.Discovery.Validate())
	} else if p.Discovery.Enabled() {
		errs = append(errs, errors.New("peers.name: needed, the name by which peers know this operator"))
	}
	return errors.Join(errs...)
}

// fitPeers refuses peers where no server of ours could connect to theirs. Roles that have nothing to do with them may
// share a file with a node that has.
func (c *Config) fitPeers(r role) error {
	c.Peers.Link.MaxAge = c.Orders.MaxAge
	if !c.Peers.enabled() || r&roleNode != roleNode || c.NATS.Embedded() {
		return nil
	}
	return errors.New("peers.name: a node has peers with the embedded server only: leave nats.url empty")
}
