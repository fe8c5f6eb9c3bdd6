package rpc

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// policy is the configuration in force, prepared. It is never changed, only replaced.
type policy struct {
	Config

	trusted   []netip.Prefix
	methods   allowed
	restrict  bool // there are lists of methods
	anyOrigin bool
	keyHeader string // as it stands in an http.Header
}

func newPolicy(cfg Config) (*policy, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &policy{
		Config: cfg, restrict: !cfg.Methods.empty(),
		anyOrigin: slices.Contains(cfg.CORS, "*"),
		keyHeader: http.CanonicalHeaderKey(cfg.KeyHeader),
	}
	p.trusted, _ = cfg.proxies() // validated
	p.methods, _ = newAllowed(cfg.Methods)
	return p, nil
}

// origin is the value of Access-Control-Allow-Origin for a page of this origin; empty: it may not call.
func (p *policy) origin(of string) string {
	switch {
	case p.anyOrigin:
		return "*"
	case slices.Contains(p.CORS, of):
		return of
	default:
		return ""
	}
}

// Reload puts cfg in force for the requests that follow. An invalid cfg (ErrConfig) or unreadable certificate
// changes nothing. Keys that need a restart keep their value; when any of them differs the error wraps
// ErrNeedsRestart and names them, and all others are in force.
func (d *Door) Reload(cfg Config) error {
	d.reloads.Lock()
	defer d.reloads.Unlock()
	if err := cfg.Validate(); err != nil {
		return err
	}
	old := &d.policy.Load().Config
	var changed []string
	keep(&changed, "addr", &cfg.Listen, old.Listen)
	keep(&changed, "dialect", &cfg.Dialect, old.Dialect)
	keep(&changed, "max_connections", &cfg.MaxConnections, old.MaxConnections)
	if (cfg.TLS == TLS{}) != (old.TLS == TLS{}) {
		keep(&changed, "tls", &cfg.TLS, old.TLS)
	}
	p, err := newPolicy(cfg)
	if err != nil {
		return err
	}
	if p.TLS != (TLS{}) {
		if err := d.certificate.Load(p.TLS.Cert, p.TLS.Key); err != nil {
			return err
		}
	}
	d.policy.Store(p)
	d.budget.total.Store(cfg.InflightBytes)
	if len(changed) > 0 {
		return fmt.Errorf("%w: %s", ErrNeedsRestart, strings.Join(changed, ", "))
	}
	return nil
}

// keep puts a value back that can't change, and notes that it was to.
func keep[T comparable](changed *[]string, key string, next *T, old T) {
	if *next != old {
		*next = old
		*changed = append(*changed, key)
	}
}
