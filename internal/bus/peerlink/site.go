package peerlink

import (
	"github.com/nats-io/nats-server/v2/server"

	"millrace/internal/bus/embedded"
)

// site describes all accounts that operator needs for its peers. The graph has no cycle: orders go from ORDERS
// to a peer's serving account, and from its fetching account to PEERS, and these two never meet.
func site(operator string, peers []Peer) []embedded.Account {
	orders := embedded.Account{Name: embedded.AccountOrders, JetStream: true}
	received := embedded.Account{Name: embedded.AccountPeers, JetStream: true}
	var all []embedded.Account
	for _, p := range peers {
		for _, l := range lanes {
			x := embedded.Account{Name: serving(p.Name, l)}
			for _, c := range l.classes() {
				serve(&orders, &x, flow{origin: operator, peer: p.Name, class: c})
			}
			all = append(all, x)
			if p.URL == "" {
				continue
			}
			f := embedded.Account{Name: fetching(p.Name, l)}
			for _, c := range l.classes() {
				fetch(&f, &received, flow{origin: p.Name, peer: operator, class: c})
			}
			all = append(all, f)
		}
	}
	return append([]embedded.Account{orders, received}, all...)
}

// serve lets one class cross from ours to a peer's account.
func serve(orders, x *embedded.Account, f flow) {
	orders.Exports = append(orders.Exports,
		embedded.Crossing{Kind: embedded.Service, Account: x.Name, Subject: f.reset()},
		embedded.Crossing{Kind: embedded.Service, Account: x.Name, Subject: f.control()},
		embedded.Crossing{Kind: embedded.Stream, Account: x.Name, Subject: f.deliver()})
	x.Imports = append(x.Imports,
		embedded.Crossing{Kind: embedded.Service, Account: orders.Name, Subject: f.reset(), As: f.remoteReset()},
		embedded.Crossing{Kind: embedded.Service, Account: orders.Name, Subject: f.control()},
		embedded.Crossing{Kind: embedded.Stream, Account: orders.Name, Subject: f.deliver()})
}

// fetch lets one class cross from a peer's connection to where it is stored.
func fetch(from, received *embedded.Account, f flow) {
	for _, c := range []embedded.Crossing{
		{Kind: embedded.Service, Subject: f.remoteReset()},
		{Kind: embedded.Service, Subject: f.control()},
		{Kind: embedded.Stream, Subject: f.deliver()},
	} {
		c.Account = received.Name
		from.Exports = append(from.Exports, c)
		c.Account = from.Name
		received.Imports = append(received.Imports, c)
	}
}

// leafRights is what a peer's connection may do in its serving account, from the peer's point of view. What it
// may subscribe to beside its orders is the answers to its resets, which come back over two account borders
// under a name that the servers make; in this account there are no others.
func leafRights(operator, peer string, l lane) *server.Permissions {
	pub, sub := &server.SubjectPermission{}, &server.SubjectPermission{Allow: []string{"_R_.>"}}
	for _, c := range l.classes() {
		f := flow{origin: operator, peer: peer, class: c}
		pub.Allow = append(pub.Allow, f.remoteReset(), f.control())
		sub.Allow = append(sub.Allow, f.deliver())
	}
	return &server.Permissions{Publish: pub, Subscribe: sub}
}

// denied is what a peer that we fetch from is not to reach, whatever our accounts hold: the fetching accounts have
// no JetStream, which is what keeps it out; this is the second lock. Flow control must not be on it.
func denied(operator string) []string {
	return []string{
		"$JS.API.>", "$JS." + operator + ".API.>", "$JS.ACK.>", "$KV.>", "$OBJ.>", "$SRV.>", "$SYS.>", "_INBOX.>",
	}
}
