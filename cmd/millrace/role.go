package main

import (
	"context"
	"errors"
	"strings"

	"millrace/internal/bus"
)

// role is a set of what a process does.
type role uint8

// The roles.
const (
	roleIngress role = 1 << iota
	roleWorkers
	roleEgress
	roleBus // the embedded server for others
	roleEngine
	roleGateway

	roleNode = roleIngress | roleWorkers | roleEgress
)

func (r role) has(other role) bool { return r&other != 0 }

// String lists the roles, upstream first.
func (r role) String() string {
	var names []string
	for i, name := range [...]string{"ingress", "worker", "egress", "bus", "engine", "gateway"} {
		if r.has(1 << i) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// user is what the bus knows these roles as: a role by its name, all of them as a node.
func (r role) user() string {
	if r == roleIngress || r == roleWorkers || r == roleEgress || r == roleEngine || r == roleGateway {
		return r.String()
	}
	return "node"
}

// nodeCmd runs everything.
type nodeCmd struct {
	settings `embed:""`
}

// Help is the long help text.
func (nodeCmd) Help() string {
	return `Without any configuration: orders on 127.0.0.1:8080, admin on 127.0.0.1:8090, data in ./data, and a built-in builder that counts what it gets. With a builder, or with a listener that is not on loopback, builder.url (or builders) is needed.

SIGHUP reloads the configuration; SIGTERM stops the intake first and drains.`
}

// Run runs the node.
func (c *nodeCmd) Run(ctx context.Context, a *app) error { return a.serve(ctx, roleNode) }

// ingressCmd runs an order door.
type ingressCmd struct {
	settings `embed:""`
}

// Run runs the door.
func (c *ingressCmd) Run(ctx context.Context, a *app) error { return a.serve(ctx, roleIngress) }

// workerCmd runs a validation pool.
type workerCmd struct {
	settings `embed:""`
}

// Run runs the pool.
func (c *workerCmd) Run(ctx context.Context, a *app) error { return a.serve(ctx, roleWorkers) }

// egressCmd runs the delivery.
type egressCmd struct {
	settings `embed:""`
}

// Run runs the delivery.
func (c *egressCmd) Run(ctx context.Context, a *app) error { return a.serve(ctx, roleEgress) }

// withEngine is a node with the Engine API, when there is an execution client to stand in front of.
func (r role) withEngine(c *Config) role {
	if r == roleNode && c.Engine.enabled() {
		return r | roleEngine
	}
	return r
}

// withGateway is a node with a gateway, when there are execution nodes.
func (r role) withGateway(c *Config) role {
	if r&roleNode == roleNode && c.Gateway.enabled() {
		return r | roleGateway
	}
	return r
}

// busCmd runs the embedded server alone.
type busCmd struct {
	settings `embed:""`
}

// Help is the long help text.
func (busCmd) Help() string {
	return `Listens on nats.listen, here 127.0.0.1:4222 by default, and ignores nats.url, so that it can share a file with the roles that use it. Keys for the roles (role.nk) and for administration (admin.nk) are made beside nats.store_dir on the first start: give a role nats.creds=<data>/auth/role.nk.

The streams of the Engine API are declared when engine.primary is set, here too: share the file with the engine. So are the gateways' queues, with gateway.queue=shared.`
}

// Run runs the server.
func (c *busCmd) Run(ctx context.Context, a *app) error { return a.serve(ctx, roleBus) }

// fit makes the configuration that of the given roles: defaults that differ between commands, and
// what a command can't do without.
func (c *Config) fit(r role) error {
	c.complete()
	if err := errors.Join(c.fitTap(r), c.fitPeers(r)); err != nil {
		return err
	}
	switch r {
	case roleNode, roleNode | roleEngine, roleNode | roleGateway, roleNode | roleEngine | roleGateway:
		c.Gateway.fitNode(c.Ingress.Listen)
		_, err := c.needsStub()
		return errors.Join(c.validate(r), err)
	case roleBus:
		c.NATS.URL, c.Gateway.elsewhere = "", true
		if c.NATS.Listen == "" {
			c.NATS.Listen = "127.0.0.1:4222"
		}
	case roleEngine: // embeds a server when there is none
		if !c.Engine.enabled() {
			return errors.New("engine.primary: needed, the URL of the primary execution client's Engine API")
		}
	case roleGateway: // embeds a server when there is none
	default:
		if c.NATS.URL == "" {
			return errors.New("nats.url: this role needs a NATS server, such as nats://127.0.0.1:4222 of millrace bus")
		}
		if r == roleEgress && len(c.Builder.Targets()) == 0 {
			return errors.New("builder.url (or builders): nothing to deliver to")
		}
	}
	return c.validate(r)
}

// fitTap decides what nats.tap=auto means: the tap needs door and workers in one process, and their
// consumers to itself.
func (c *Config) fitTap(r role) error {
	able := r&roleNode == roleNode && c.NATS.Embedded()
	switch {
	case c.NATS.Tap == bus.TapOn && !able:
		return errors.New("nats.tap: on needs millrace node with the embedded server (no nats.url); auto or off for anything else")
	case c.NATS.Tap == bus.TapAuto && able:
		c.NATS.Tap = bus.TapOn
	case c.NATS.Tap == bus.TapAuto:
		c.NATS.Tap = bus.TapOff
	}
	return nil
}

// needsStub reports whether the node delivers to its built-in builder: without any configured one,
// and only if nobody else can reach the node. Anything else without a builder is a mistake that
// would lose orders.
func (c *Config) needsStub() (bool, error) {
	if len(c.Builder.Targets()) > 0 {
		return false, nil
	}
	if c.NATS.URL != "" {
		return false, errors.New("builder.url (or builders): needed when nats.url is set")
	}
	if c.Peers.enabled() {
		return false, errors.New("builder.url (or builders): needed when there are peers")
	}
	for key, addr := range map[string]string{
		"ingress.listen": c.Ingress.Listen, "ingress.builder_listen": c.Ingress.BuilderListen, "nats.listen": c.NATS.Listen,
	} {
		if !loopback(addr) {
			return false, errors.New("builder.url (or builders): needed when " + key + " is not on loopback")
		}
	}
	return true, nil
}
