package discovery

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"
)

// Config says where peers are known from: peers.* in the configuration. All sources may be used at once.
type Config struct {
	Hub    HubConfig `embed:"" prefix:"hub."`
	File   string    `name:"file" help:"YAML file with a list of peers; changes are taken at once."`
	SRV    string    `name:"srv" help:"DNS name whose SRV records are peers, such as _millrace._tcp.example.org; TXT records of their targets give pins."`
	Static []Entry   `name:"static" help:"Peers: name, address, dns_name, transport (leafnode, https or auto), certificate, pins, signer. They win over those of the file, of DNS and of the hub with the same name."`
}

// HubConfig is how a BuilderHub is used.
type HubConfig struct {
	URL       string        `name:"url" env:"MILLRACE_PEERS_HUB_URL,BUILDERHUB_ENDPOINT,BUILDER_CONFIGHUB_ENDPOINT" help:"BuilderHub that lists the peers; we register with it. Empty: none."`
	Every     time.Duration `name:"every" default:"30s" help:"How often the BuilderHub is asked for its list."`
	CA        string        `name:"ca" help:"PEM file with the roots that the BuilderHub's certificate is checked against; the system's by default."`
	Transport Transport     `name:"transport" default:"auto" help:"What the BuilderHub's peers speak: leafnode, https or auto."`
	Register  bool          `name:"register" default:"true" negatable:"" help:"Register our order-flow key and certificate with the BuilderHub, so that it lists us."`
}

// DefaultConfig has every default.
func DefaultConfig() Config {
	return Config{Hub: HubConfig{Every: 30 * time.Second, Transport: Auto, Register: true}}
}

// Enabled reports whether there is any source.
func (c *Config) Enabled() bool {
	return c.Hub.URL != "" || c.File != "" || c.SRV != "" || len(c.Static) > 0
}

// Validate reports every fault. Certificates that the list names are read, the file of peers is not: it
// may come later.
func (c *Config) Validate() error {
	_, err := staticPeers(c.Static)
	errs := []error{err}
	if c.Hub.URL != "" {
		errs = append(errs, c.Hub.validate())
	}
	if c.SRV != "" && !validHost(strings.TrimSuffix(c.SRV, ".")) {
		errs = append(errs, fmt.Errorf("peers.srv: %.64q is not a name such as _millrace._tcp.example.org", c.SRV))
	}
	return errors.Join(errs...)
}

func (h *HubConfig) validate() error {
	var errs []error
	if _, err := hubURL(h.URL); err != nil {
		errs = append(errs, err)
	}
	if h.Every < time.Second || h.Every > time.Hour {
		errs = append(errs, fmt.Errorf("peers.hub.every: %s is not between 1s and 1h", h.Every))
	}
	if h.Transport < Leafnode || h.Transport > Auto {
		errs = append(errs, errors.New("peers.hub.transport: neither leafnode nor https nor auto"))
	}
	if h.CA != "" {
		if _, err := os.Stat(h.CA); err != nil {
			errs = append(errs, fmt.Errorf("peers.hub.ca: %w", err))
		}
	}
	return errors.Join(errs...)
}

// hubURL never repeats what it was given: a URL may hold a password.
func hubURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("peers.hub.url: not an http or https URL with a host")
	}
	u.RawQuery, u.Fragment = "", ""
	return u, nil
}

// staticPeers checks the configuration's own list; the configuration is refused with the errors.
func staticPeers(list []Entry) ([]Peer, error) {
	peers, skips := entries(list, "", Static)
	errs := make([]error, len(skips))
	for i, s := range skips {
		errs[i] = fmt.Errorf("peers.static: %.64q: %w", s.Name, s.Err)
	}
	return peers, errors.Join(errs...)
}

// entries checks a list, alone and against each other.
func entries(list []Entry, dir string, source Source) (peers []Peer, skips []Skip) {
	for i := range list {
		p, err := list[i].peer(dir, source)
		if err != nil {
			skips = append(skips, Skip{Name: list[i].Name, Err: err})
			continue
		}
		peers = append(peers, p)
	}
	u := newUnion(Self{})
	skips = append(skips, u.add(peers)...)
	return peers, skips
}
