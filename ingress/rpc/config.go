package rpc

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"millrace/internal/clientip"
)

// Dialect is what a listener speaks.
type Dialect string

// The dialects.
const (
	// DialectPrio is prio-load-balancer's: opaque bodies, errors as text.
	DialectPrio Dialect = "prio"
	// DialectJSONRPC is axon-proxy's: bodies are read, errors are JSON-RPC's.
	DialectJSONRPC Dialect = "jsonrpc"
)

// HTTPStatus says which HTTP status a JSON-RPC error has.
type HTTPStatus string

// The kinds of statuses.
const (
	StatusFixed  HTTPStatus = "fixed"  // 200
	StatusMapped HTTPStatus = "mapped" // by the error
)

// Switch is on or off.
type Switch string

// The positions.
const (
	On  Switch = "on"
	Off Switch = "off"
)

// TLS names the certificate of the listener; both empty: plain HTTP. The files are read again when they change.
type TLS struct {
	Cert string // PEM file with the certificate chain
	Key  string // PEM file with its private key
}

// Methods says which methods may be called; a name may end in * for all that begin so. Deny goes before Allow; an
// empty Allow allows all. With either, /sim is not served: its bodies are not read. Reloadable.
type Methods struct {
	Allow []string `name:"allow" help:"Methods that may be called, all when empty; debug_* is all that begin so."`
	Deny  []string `name:"deny" help:"Methods that may not be called."`
}

func (m *Methods) empty() bool { return len(m.Allow) == 0 && len(m.Deny) == 0 }

// Config is one listener of the gateway. What is not marked as reloadable needs a restart.
type Config struct {
	Listen  string  `kong:"-"` // host:port
	Name    string  `kong:"-"` // in metrics; empty: Listen
	Dialect Dialect `kong:"-"`
	TLS     TLS     `kong:"-"`

	MaxBody        int64         `name:"max_body" help:"Largest request body, after decompression too." default:"8MiB" type:"bytes"`
	BatchMax       int           `name:"batch_max" help:"Most calls in one batch (jsonrpc)." default:"1000"`
	BatchParallel  int           `name:"batch_parallel" help:"Calls of one batch that are under way at once." default:"32"`
	Methods        Methods       `embed:"" prefix:"methods."`
	HTTPStatus     HTTPStatus    `name:"http_status" help:"Status of a JSON-RPC error: always 200 (fixed), or by the error (mapped)." default:"fixed" enum:"fixed,mapped"`
	TrustedProxies []string      `name:"trusted_proxies" help:"Networks (CIDR) whose X-Forwarded-For is believed."`
	KeyHeader      string        `name:"key_header" help:"Header that holds a client's API key, for limits by key." default:"X-Api-Key"`
	NodesWritable  Switch        `name:"nodes_writable" help:"Let /nodes add and remove nodes (prio)." default:"on" enum:"on,off"`
	NodeHeader     Switch        `name:"node_header" help:"Tell in X-LB-Node which node answered." default:"off" enum:"on,off"`
	Gzip           Switch        `name:"gzip" help:"Compress answers for clients that ask for it, and take compressed bodies (jsonrpc)." default:"on" enum:"on,off"`
	CORS           []string      `name:"cors" help:"Origins whose web pages may call, * for all, none when empty (jsonrpc)." default:"*"`
	LogEvery       int           `name:"log_every" help:"Log one request in so many; 0 logs none." default:"0"`
	InflightBytes  int64         `name:"inflight_bytes" help:"Memory for request bodies in flight." default:"512MiB" type:"bytes"`
	MaxConnections int           `name:"max_connections" help:"Open connections of the listener; more wait to be accepted." default:"8192"`
	DrainDelay     time.Duration `name:"drain_delay" help:"Time between turning unready and refusing connections." default:"500ms"`
	Drain          time.Duration `name:"drain" help:"Longest wait for calls in flight at shutdown." default:"10s"`
}

// DefaultConfig is the configuration that the flag defaults describe, for a dialect.
func DefaultConfig(dialect Dialect) Config {
	return Config{
		Listen: "127.0.0.1:8080", Dialect: dialect,
		MaxBody: 8 << 20, BatchMax: 1000, BatchParallel: 32, HTTPStatus: StatusFixed, KeyHeader: "X-Api-Key",
		NodesWritable: On, NodeHeader: Off, Gzip: On, CORS: []string{"*"},
		InflightBytes: 512 << 20, MaxConnections: 8192, DrainDelay: 500 * time.Millisecond, Drain: 10 * time.Second,
	}
}

// Validate reports every fault of c, joined; each wraps ErrConfig.
func (c *Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("%w: %w", ErrConfig, fmt.Errorf(format, args...)))
	}
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		fault("addr: %w", err)
	}
	if c.Dialect != DialectPrio && c.Dialect != DialectJSONRPC {
		fault("dialect must be prio or jsonrpc")
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		fault("tls.cert and tls.key go together")
	}
	if c.HTTPStatus != StatusFixed && c.HTTPStatus != StatusMapped {
		fault("http_status must be fixed or mapped")
	}
	if c.Dialect == DialectPrio && !c.Methods.empty() {
		fault("methods: a prio listener does not read what it passes on")
	}
	for _, s := range [...]struct {
		key string
		is  Switch
	}{{"nodes_writable", c.NodesWritable}, {"node_header", c.NodeHeader}, {"gzip", c.Gzip}} {
		if s.is != On && s.is != Off {
			fault("%s must be on or off", s.key)
		}
	}
	for _, n := range [...]struct {
		key     string
		is, low int64
	}{
		{"max_body", c.MaxBody, 1 << 10},
		{"inflight_bytes", c.InflightBytes, c.MaxBody + 1},
		{"batch_max", int64(c.BatchMax), 1},
		{"batch_parallel", int64(c.BatchParallel), 1},
		{"log_every", int64(c.LogEvery), 0},
		{"max_connections", int64(c.MaxConnections), 1},
		{"drain_delay", int64(c.DrainDelay), 0},
		{"drain", int64(c.Drain), 0},
	} {
		if n.is < n.low {
			fault("%s must be at least %d", n.key, n.low)
		}
	}
	_, proxies := c.proxies()
	_, lists := newAllowed(c.Methods)
	return errors.Join(append(faults, proxies, lists)...)
}

// proxies parses the trusted networks.
func (c *Config) proxies() ([]netip.Prefix, error) {
	nets, err := clientip.Networks(c.TrustedProxies)
	if err != nil {
		return nil, fmt.Errorf("%w: trusted_proxies: %w", ErrConfig, err)
	}
	return nets, nil
}

// allowed decides on methods by their names.
type allowed struct {
	allow, deny list
}

type list struct {
	names    map[string]struct{}
	prefixes []string
}

func newAllowed(m Methods) (allowed, error) {
	allow, err := newList("allow", m.Allow)
	deny, err2 := newList("deny", m.Deny)
	return allowed{allow, deny}, errors.Join(err, err2)
}

func newList(key string, names []string) (l list, err error) {
	l.names = make(map[string]struct{}, len(names))
	for _, n := range names {
		prefix, all := strings.CutSuffix(n, "*")
		switch {
		case n == "" || strings.Contains(prefix, "*"):
			err = errors.Join(err, fmt.Errorf("%w: methods.%s: %q is no name, nor the beginning of one with * behind it", ErrConfig, key, n))
		case all:
			l.prefixes = append(l.prefixes, prefix)
		default:
			l.names[n] = struct{}{}
		}
	}
	return l, err
}

func (l *list) empty() bool { return len(l.names) == 0 && len(l.prefixes) == 0 }

func (l *list) has(method string) bool {
	if _, ok := l.names[method]; ok {
		return true
	}
	for _, p := range l.prefixes {
		if strings.HasPrefix(method, p) {
			return true
		}
	}
	return false
}

func (a *allowed) may(method string) bool {
	if !a.deny.empty() && a.deny.has(method) {
		return false
	}
	return a.allow.empty() || a.allow.has(method)
}
