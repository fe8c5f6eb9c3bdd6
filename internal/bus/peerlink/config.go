package peerlink

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"millrace/subjects"
)

// The values of Config.Compression.
const (
	CompressionOff    = "off"
	CompressionS2Fast = "s2_fast"
)

// pinSize is the length of a pin in bytes.
const pinSize = 32

// Config is this operator's side: peers.* in the configuration.
type Config struct {
	Operator    string        `name:"name" help:"This operator's name, as its peers know it. Empty: no peers."`
	Listen      string        `name:"listen" help:"Address on which peers fetch our orders (leafnode, mutual TLS 1.3). Empty: none."`
	TLS         TLSConfig     `embed:"" prefix:"tls."`
	MaxBytes    int64         `name:"max_bytes" help:"Most bytes that are kept of one peer's orders of one priority until they are taken; then the oldest go." default:"256MiB" type:"bytes"`
	Compression string        `name:"compression" help:"Of connections to peers: off or s2_fast. off within one data centre." default:"s2_fast" enum:"off,s2_fast"`
	Ping        time.Duration `name:"ping" help:"How often a connection is asked whether it is there; it ends after two answers that did not come." default:"2s"`

	// MaxAge is orders.max_age, which is not this package's to configure.
	MaxAge time.Duration `kong:"-"`
}

// TLSConfig names the files with which peers know each other.
type TLSConfig struct {
	Cert string `name:"cert" help:"File with the certificate that peers know us by, read again when it changes." type:"path"`
	Key  string `name:"key" help:"File with this certificate's private key." type:"path"`
	CA   string `name:"ca" help:"File with the authorities whose certificates name a peer that has no pins." type:"path"`
}

// Enabled reports whether there can be peers at all.
func (c *Config) Enabled() bool { return c.Operator != "" }

// Validate returns every fault of c.
func (c *Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !c.Enabled() {
		if c.Listen != "" {
			fail("peers.listen: needs peers.name")
		}
		return errors.Join(errs...)
	}
	if !subjects.ValidName(c.Operator) {
		fail("peers.name: %q is not a name of letters, digits, - and _", c.Operator)
	}
	if c.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Listen); err != nil {
			fail("peers.listen: %w", err)
		}
	}
	if c.TLS.Cert == "" || c.TLS.Key == "" {
		fail("peers.tls: cert and key are needed, peers know each other by nothing else")
	}
	if c.MaxBytes <= 0 {
		fail("peers.max_bytes: %d is not positive", c.MaxBytes)
	}
	if c.MaxAge <= 0 {
		fail("orders.max_age: %s is not positive", c.MaxAge)
	}
	if c.Ping < 100*time.Millisecond {
		fail("peers.ping: %s is below 100ms", c.Ping)
	}
	if c.Compression != CompressionOff && c.Compression != CompressionS2Fast {
		fail("peers.compression: %q is neither off nor s2_fast", c.Compression)
	}
	return errors.Join(errs...)
}

// Peer is another operator.
type Peer struct {
	Name string // its operator's name, the same for everybody
	URL  string // tls://host:port of its leafnode listener; empty: it fetches from us only
	// Pins are SHA-256 hashes, in hex, of the public keys (SubjectPublicKeyInfo) that its certificates may
	// have: two while it changes its key. None: its certificate is one of our authorities' and names it.
	Pins     []string
	MaxBytes int64 // of its orders of one priority; zero: Config.MaxBytes
}

func (p *Peer) validate(c *Config) error {
	switch {
	case !subjects.ValidName(p.Name):
		return fmt.Errorf("%w: %q is not a name of letters, digits, - and _", ErrConfig, p.Name)
	case p.Name == c.Operator:
		return fmt.Errorf("%w: %s is our own name", ErrConfig, p.Name)
	case len(p.Pins) == 0 && c.TLS.CA == "":
		return fmt.Errorf("%w: %s has no pins, and there is no peers.tls.ca", ErrConfig, p.Name)
	}
	for _, pin := range p.Pins {
		if b, err := hex.DecodeString(pin); err != nil || len(b) != pinSize {
			return fmt.Errorf("%w: %s: pin %q is not a SHA-256 in hex", ErrConfig, p.Name, pin)
		}
	}
	if p.URL == "" {
		return nil
	}
	u, err := url.Parse(p.URL)
	if err != nil || u.Scheme != "tls" || u.Port() == "" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf("%w: %s: url %q is not tls://host:port", ErrConfig, p.Name, p.URL)
	}
	return nil
}

// validatePeers returns the first fault of a list.
func validatePeers(c *Config, peers []Peer) error {
	names, pins := map[string]bool{}, map[string]string{}
	for i := range peers {
		p := &peers[i]
		if err := p.validate(c); err != nil {
			return err
		}
		if names[p.Name] {
			return fmt.Errorf("%w: %s is there twice", ErrConfig, p.Name)
		}
		names[p.Name] = true
		for _, pin := range p.Pins {
			pin = strings.ToLower(pin)
			if other, ok := pins[pin]; ok && other != p.Name {
				return fmt.Errorf("%w: %s and %s have the same pin", ErrConfig, other, p.Name)
			}
			pins[pin] = p.Name
		}
	}
	return nil
}
