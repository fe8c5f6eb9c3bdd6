package main

import (
	"errors"
	"fmt"

	system "millrace/ingress/peers"
	"millrace/internal/bus/peerlink"
	"millrace/internal/discovery"
)

// Peers is the exchange of orders with other operators.
type Peers struct {
	Link       peerlink.Config  `embed:""`
	Discovery  discovery.Config `embed:""`
	System     system.Config    `embed:"" prefix:"system."`
	Revalidate bool             `name:"revalidate" help:"Check the transactions of peers' orders against the consensus rules, as those of our own senders are."`
}

// enabled reports whether there can be peers: over leafnodes, or in the first proxy's protocol.
func (p *Peers) enabled() bool {
	return p.Link.Enabled() || p.Discovery.Enabled() || p.System.Listen != ""
}

// Validate reports every fault.
func (p *Peers) Validate() error {
	errs := []error{p.Link.Validate(), p.Discovery.Validate()}
	if p.System.Listen != "" {
		if err := p.System.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("peers.system: %w", err))
		}
	}
	return errors.Join(errs...)
}

// fitPeers refuses peers where no server of ours could connect to theirs. Roles that have nothing to do with them may
// share a file with a node that has.
func (c *Config) fitPeers(r role) error {
	c.Peers.Link.MaxAge, c.Peers.System.MaxBody = c.Orders.MaxAge, c.Ingress.MaxBody
	if !c.Peers.enabled() || r&roleNode != roleNode || c.NATS.Embedded() {
		return nil
	}
	return errors.New("peers: a node has peers with the embedded server only: leave nats.url empty")
}

// leafnode reports whether a peer is reached by leafnode. What a hub lists, without saying how, speaks the first proxy's
// protocol; who has pins was meant to be known by its key.
func (p *Peers) leafnode(peer *discovery.Peer) bool {
	switch peer.Transport {
	case discovery.Leafnode:
		return true
	case discovery.HTTPS:
		return false
	default:
		return p.Link.Enabled() && (len(peer.Pins) > 0 || p.Link.TLS.CA != "" && peer.Source != discovery.Hub)
	}
}
