package bus

import (
	"errors"
	"fmt"
	"net"

	"github.com/nats-io/nats.go"

	"millrace/internal/bus/embedded"
)

// The values of Config.Sync.
const (
	SyncInterval = "interval"
	SyncAlways   = "always"
)

// The values of Config.Tap.
const (
	TapAuto = "auto"
	TapOn   = "on"
	TapOff  = "off"
)

// Config says where the bus is: nats.* in the configuration.
type Config struct {
	URL      string `name:"url" help:"NATS servers, comma separated. Empty: embed a server in this process."`
	StoreDir string `name:"store_dir" help:"Directory of the embedded server's streams." default:"./data/nats"`
	Listen   string `name:"listen" help:"Address on which the embedded server accepts NATS clients, such as the nats CLI. Empty: no port."`
	Sync     string `name:"sync" help:"When the embedded server syncs to disk: every second (interval) or before each acknowledgement (always)." default:"interval" enum:"interval,always"`
	MaxStore int64  `name:"max_store" help:"Most bytes that the embedded server stores. Zero: 80 % of the volume." default:"0" type:"bytes"`
	Tap      string `name:"tap" help:"Hand what is published to the consumers of the same process at once (on, off). auto: in a node with the embedded server; other workers at that server then have nothing to do." default:"auto" enum:"auto,on,off"`
	Replicas int    `name:"replicas" help:"Copies of each stream; above one only on a cluster." default:"1"`

	// Role is what this process does: "ingress", "worker", "egress", "engine", "gateway", "node", or empty for a command.
	// A server may allow each role its own inboxes only, and only those that work keep house. It is
	// the program's to say, not the operator's.
	Role string `kong:"-"`

	// Peering makes the embedded server exchange orders with other operators' (package peerlink); nil: no peers.
	Peering *embedded.Peering `kong:"-"`

	Creds string    `name:"creds" help:"File with the credentials for the NATS servers." type:"path"`
	Token string    `name:"token" help:"Token for the NATS servers."`
	TLS   TLSConfig `embed:"" prefix:"tls."`
}

// TLSConfig names the files with which the NATS servers and this process prove who they are.
type TLSConfig struct {
	CA   string `name:"ca" help:"File with the authorities that the NATS servers' certificates must come from." type:"path"`
	Cert string `name:"cert" help:"File with this process's certificate, read again when it changes; the embedded server's listener shows it." type:"path"`
	Key  string `name:"key" help:"File with this certificate's private key." type:"path"`
}

// Embedded reports whether the server runs in this process.
func (c *Config) Embedded() bool { return c.URL == "" }

// inbox is the prefix of the subjects on which a connection of this process gets its answers.
func (c *Config) inbox(u use) string {
	if c.Role == "" {
		return "_INBOX_" + u.String()
	}
	return "_INBOX_" + c.Role + "." + u.String()
}

// keepsHouse reports whether this process may purge what is done: doors and deliveries on their own
// need no right to empty a stream.
func (c *Config) keepsHouse() bool {
	return c.Role != "ingress" && c.Role != "egress" && c.Role != "engine" && c.Role != "gateway"
}

// tapped reports whether the tap is on; whoever knows the roles of the process decides what auto means.
func (c *Config) tapped() bool { return c.Tap == TapOn }

// Validate returns every fault of c.
func (c *Config) Validate() error {
	var errs []error
	if c.Embedded() && c.StoreDir == "" {
		errs = append(errs, errors.New("nats.store_dir: needed without nats.url"))
	}
	if c.Sync != SyncInterval && c.Sync != SyncAlways {
		errs = append(errs, fmt.Errorf("nats.sync: %q is neither interval nor always", c.Sync))
	}
	switch c.Tap {
	case "", TapAuto, TapOff:
	case TapOn:
		if !c.Embedded() {
			errs = append(errs, errors.New("nats.tap: on only beside the embedded server: the consumers must be this process's alone"))
		}
	default:
		errs = append(errs, fmt.Errorf("nats.tap: %q is none of on, off and auto", c.Tap))
	}
	if c.Replicas < 1 || c.Replicas > 5 {
		errs = append(errs, fmt.Errorf("nats.replicas: %d is not between 1 and 5", c.Replicas))
	} else if c.Embedded() && c.Replicas > 1 {
		errs = append(errs, errors.New("nats.replicas: an embedded server keeps one copy"))
	}
	if c.MaxStore < 0 {
		errs = append(errs, errors.New("nats.max_store: negative"))
	}
	if c.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Listen); err != nil {
			errs = append(errs, fmt.Errorf("nats.listen: %w", err))
		}
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		errs = append(errs, errors.New("nats.tls: cert and key come together"))
	}
	return errors.Join(errs...)
}

// clientOptions says as whom to connect to servers elsewhere.
func (c *Config) clientOptions() ([]nats.Option, error) {
	var opts []nats.Option
	if c.Creds != "" {
		auth, err := embedded.ClientAuth(c.Creds)
		if err != nil {
			return nil, fmt.Errorf("nats.creds: %w", err)
		}
		opts = append(opts, auth)
	}
	if c.Token != "" {
		opts = append(opts, nats.Token(c.Token))
	}
	if c.TLS.CA != "" {
		opts = append(opts, nats.RootCAs(c.TLS.CA))
	}
	if c.TLS.Cert != "" {
		opts = append(opts, nats.ClientCert(c.TLS.Cert, c.TLS.Key))
	}
	return opts, nil
}
