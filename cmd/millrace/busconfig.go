package main

import (
	"fmt"
	"strings"

	"millrace/internal/bus/access"
)

// accessCmd writes what a nats-server that is not ours needs.
type accessCmd struct {
	Out      string   `name:"out" placeholder:"DIR" required:"" type:"path" help:"Directory for the files. Keys that are in it are kept."`
	Cluster  int      `name:"cluster" default:"1" help:"Number of servers: 1, 3 or 5."`
	Hosts    []string `name:"hosts" default:"127.0.0.1" help:"Host of each server as the others and the roles reach it; one for all: they share the machine, on ports one after the other."`
	Port     int      `name:"port" default:"4222" help:"Port for clients; routes listen 2000 above it, monitoring 4000 above it, on loopback."`
	StoreDir string   `name:"store-dir" default:"/var/lib/nats" help:"JetStream's directory on each server."`
	TLSDir   string   `name:"tls-dir" placeholder:"DIR" help:"Directory on each machine with ca.pem, cert.pem and key.pem, for clients and routes."`
	KeysAt   string   `name:"keys-at" placeholder:"DIR" help:"Where the roles will find their keys; by default where they are written."`
	Rotate   []string `name:"rotate" placeholder:"ROLE" help:"Make a new key for these roles; the present one stays valid."`
	Retire   []string `name:"retire" placeholder:"ROLE" help:"Take back the key that these roles had before."`
}

// Help is the long help text.
func (accessCmd) Help() string {
	var b strings.Builder
	b.WriteString("Writes configurations for nats-server with one user per role, each with least permissions and a fresh nkey; run it again after a change, and to rotate keys. The users:\n\n")
	for _, r := range access.Roles() {
		fmt.Fprintf(&b, "%s: %s.\n\n", r.Name, r.Purpose)
	}
	b.WriteString("Then: start the servers, `millrace streams apply` with the environment of admin.env, and each role with that of its own file.")
	return b.String()
}

// Run writes the files and lists them.
func (c *accessCmd) Run(a *app) error {
	s := &access.Site{
		Dir: c.Out, Servers: c.Cluster, Hosts: c.Hosts, Port: c.Port, Store: c.StoreDir, TLS: c.TLSDir, KeysAt: c.KeysAt,
	}
	if err := s.Validate(); err != nil {
		return usage(err)
	}
	for _, role := range c.Rotate {
		if err := s.Rotate(role); err != nil {
			return err
		}
	}
	for _, role := range c.Retire {
		if err := s.Retire(role); err != nil {
			return err
		}
	}
	files, err := s.Write()
	if err != nil {
		return err
	}
	t := newTable(a.stdout)
	for _, f := range files {
		t.row(f.Path, f.What)
	}
	return t.flush()
}
