package peerlink

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats-server/v2/server"

	"millrace/internal/bus/embedded"
)

// crossing is one subject that passes from an account to another.
type crossing struct {
	kind     string // crossService or crossStream
	account  string // for an import: whose; for an export: to whom
	subject  string
	renaming string // for an import: what it is called here; empty: the same
}

const (
	crossService = "service"
	crossStream  = "stream"
)

// account is one account of a server that has peers, as data: the embedded server and one elsewhere are
// configured from the same description.
type account struct {
	name             string
	jetstream        bool
	exports, imports []crossing
}

// site describes all accounts that operator needs for its peers. The graph has no cycle: orders go from ORDERS
// to a peer's serving account, and from its fetching account to PEERS, and these two never meet.
func site(operator string, peers []Peer) []account {
	orders := account{name: embedded.AccountOrders, jetstream: true}
	received := account{name: embedded.AccountPeers, jetstream: true}
	var all []account
	for _, p := range peers {
		for _, l := range lanes {
			x := account{name: serving(p.Name, l)}
			for _, c := range l.classes() {
				serve(&orders, &x, flow{origin: operator, peer: p.Name, class: c})
			}
			all = append(all, x)
			if p.URL == "" {
				continue
			}
			f := account{name: fetching(p.Name, l)}
			for _, c := range l.classes() {
				fetch(&f, &received, flow{origin: p.Name, peer: operator, class: c})
			}
			all = append(all, f)
		}
	}
	return append([]account{orders, received}, all...)
}

// serve lets one class cross from ours to a peer's account.
func serve(orders, x *account, f flow) {
	orders.exports = append(orders.exports,
		crossing{kind: crossService, account: x.name, subject: f.reset()},
		crossing{kind: crossService, account: x.name, subject: f.control()},
		crossing{kind: crossStream, account: x.name, subject: f.deliver()})
	x.imports = append(x.imports,
		crossing{kind: crossService, account: orders.name, subject: f.reset(), renaming: f.remoteReset()},
		crossing{kind: crossService, account: orders.name, subject: f.control()},
		crossing{kind: crossStream, account: orders.name, subject: f.deliver()})
}

// fetch lets one class cross from a peer's connection to where it is stored.
func fetch(from, received *account, f flow) {
	for _, c := range []crossing{
		{kind: crossService, subject: f.remoteReset()},
		{kind: crossService, subject: f.control()},
		{kind: crossStream, subject: f.deliver()},
	} {
		c.account = received.name
		from.exports = append(from.exports, c)
		c.account = from.name
		received.imports = append(received.imports, c)
	}
}

// renderAccounts is the accounts as a server's configuration.
func renderAccounts(all []account) string {
	var b strings.Builder
	b.WriteString("accounts: {\n")
	for _, a := range all {
		fmt.Fprintf(&b, "  %q: {\n", a.name)
		if a.jetstream {
			b.WriteString("    jetstream: enabled\n")
		}
		crossings(&b, "exports", a.exports, func(c crossing) string {
			return fmt.Sprintf("{%s: %q, accounts: [%q]}", c.kind, c.subject, c.account)
		})
		crossings(&b, "imports", a.imports, func(c crossing) string {
			to := ""
			if c.renaming != "" {
				to = fmt.Sprintf(", to: %q", c.renaming)
			}
			return fmt.Sprintf("{%s: {account: %q, subject: %q}%s}", c.kind, c.account, c.subject, to)
		})
		b.WriteString("  }\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func crossings(b *strings.Builder, name string, all []crossing, text func(crossing) string) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(b, "    %s: [\n", name)
	for _, c := range all {
		fmt.Fprintf(b, "      %s\n", text(c))
	}
	b.WriteString("    ]\n")
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
