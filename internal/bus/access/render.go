package access

import (
	"bytes"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
)

// usersFile is what every server includes.
const usersFile = "users.conf"

// Sizes of a server.
const (
	// maxPayload admits an order of ingress.max_body (10 MiB) with its headers.
	maxPayload = 12 << 20
	// maxPending is what the server queues for one client: sixteen prefetched orders of 10 MiB exceed
	// what it allows by default.
	maxPending = 256 << 20
)

// users renders the accounts: public keys and permissions.
func (s *Site) users() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("# Who may do what. Written by `millrace bus-config`: change it there. Public keys only.\n\naccounts: {\n")
	b.WriteString("  ORDERS: {\n    jetstream: enabled\n    users: [\n")
	for _, r := range Roles() {
		if err := s.user(&b, r); err != nil {
			return nil, err
		}
	}
	b.WriteString("    ]\n  }\n  SYS: {\n    users: [\n")
	if err := s.user(&b, system()); err != nil {
		return nil, err
	}
	b.WriteString("    ]\n  }\n}\nsystem_account: SYS\n")
	return b.Bytes(), nil
}

// user renders a role once for each key that is valid.
func (s *Site) user(b *bytes.Buffer, r Role) error {
	public, err := s.keys().public(r.Name)
	if err != nil {
		return fmt.Errorf("key of %s: %w", r.Name, err)
	}
	for i, key := range public {
		note := ""
		if i > 0 {
			note = " (the key before)"
		}
		fmt.Fprintf(b, "      # %s%s: %s\n      {\n        nkey: %s\n", r.Name, note, r.Purpose, key)
		if r.Publish != nil {
			b.WriteString("        permissions: {\n          publish: {\n")
			list(b, "allow", r.Publish)
			if r.Deny != nil {
				list(b, "deny", r.Deny)
			}
			b.WriteString("          }\n          subscribe: {\n")
			list(b, "allow", r.Subscribe)
			b.WriteString("          }\n        }\n")
		}
		b.WriteString("      }\n")
	}
	return nil
}

func list(b *bytes.Buffer, name string, subjects []string) {
	fmt.Fprintf(b, "            %s: [\n", name)
	for _, s := range subjects {
		fmt.Fprintf(b, "              %q\n", s)
	}
	b.WriteString("            ]\n")
}

// config renders one server.
func (s *Site) config(sv server, secret string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `# Written by `+"`millrace bus-config`"+`. Start: nats-server -c %[1]s.conf; after a change: nats-server --signal reload.
server_name: %[1]s
listen: "%[2]s"
# Monitoring, unauthenticated, for this machine: /healthz, /varz, /jsz.
http: "127.0.0.1:%[3]d"
include %[4]s

max_payload: %[5]d
max_pending: %[6]d
write_deadline: "10s"
lame_duck_duration: "30s"
lame_duck_grace_period: "5s"

jetstream: {
  store_dir: %[7]q
  # What a machine that dies may take along on one server; with three replicas nothing.
  sync_interval: "1s"
}
`, sv.Name, listen(sv.Host, sv.Client), sv.MonitorPort, usersFile, maxPayload, maxPending, sv.Store)
	if s.TLS != "" {
		s.tls(&b, "", "  # Clients prove themselves with their nkey.\n")
	}
	if s.Servers == 1 {
		return b.Bytes()
	}
	fmt.Fprintf(&b, "\ncluster: {\n  name: millrace\n  listen: %q\n", listen(sv.Host, sv.Routes))
	fmt.Fprintf(&b, "  authorization: { user: route, password: %q }\n", secret)
	if s.TLS != "" {
		s.tls(&b, "  ", "    verify: true\n")
	}
	b.WriteString("  routes: [\n")
	for _, other := range s.servers() {
		if other.Name != sv.Name {
			fmt.Fprintf(&b, "    \"nats-route://route:%s@%s\"\n", secret, net.JoinHostPort(other.Host, strconv.Itoa(other.Routes)))
		}
	}
	b.WriteString("  ]\n}\n")
	return b.Bytes()
}

func (s *Site) tls(b *bytes.Buffer, indent, more string) {
	fmt.Fprintf(b, "%[1]stls: {\n%[1]s  ca_file: %[2]q\n%[1]s  cert_file: %[3]q\n%[1]s  key_file: %[4]q\n%[5]s%[1]s}\n", indent,
		filepath.Join(s.TLS, "ca.pem"), filepath.Join(s.TLS, "cert.pem"), filepath.Join(s.TLS, "key.pem"), more)
}

// listen is where a server listens: on its address if that is given as one, else on every one, as a
// name may be another machine's idea of it.
func listen(host string, port int) string {
	if ip := net.ParseIP(host); ip == nil && !strings.EqualFold(host, "localhost") {
		host = "0.0.0.0"
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}
