package ingress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"millrace/internal/clientip"
	"millrace/internal/order"
)

// Dialect is how errors and replacement counters look to clients.
type Dialect string

// The dialects.
const (
	// DialectV2 answers like FlowProxy: HTTP statuses carry the kind of error.
	DialectV2 Dialect = "v2"
	// DialectV1 is for clients of the first proxy: JSON-RPC errors have HTTP status 200 and
	// mev_sendBundle gets replacement counters that start at 0.
	DialectV1 Dialect = "v1"
)

// RateLimit is the token bucket of one entity. Reloadable.
type RateLimit struct {
	Enabled bool          `name:"enabled" help:"Limit the orders of each signer."`
	Window  time.Duration `name:"window" help:"Time in which a signer may send count orders." default:"1s"`
	Count   int           `name:"count" help:"Orders that a signer may send per window." default:"500"`
}

// ShedAge is, per class, the age of the oldest waiting order beyond which the door refuses the
// class and all lower ones; 0 never sheds. Reloadable.
type ShedAge struct {
	High   time.Duration `name:"high" help:"Refuse high orders while the oldest waiting one is older." default:"10s"`
	Medium time.Duration `name:"medium" help:"Refuse medium and low orders while the oldest waiting medium one is older." default:"4s"`
	Low    time.Duration `name:"low" help:"Refuse low orders while the oldest waiting one is older." default:"1s"`
}

// of returns the age of class p.
func (a ShedAge) of(p order.Priority) time.Duration {
	switch p {
	case order.PriorityHigh:
		return a.High
	case order.PriorityMedium:
		return a.Medium
	case order.PriorityLow:
		return a.Low
	}
	return 0
}

// TLS names the certificate of the order listener; both empty: plain HTTP. The files are read
// again when they change.
type TLS struct {
	Cert string `name:"cert" help:"PEM file with the certificate chain; TLS 1.3 is served when set."`
	Key  string `name:"key" help:"PEM file with the certificate's private key."`
}

// IPRate is the request budget of one source address (IPv6: its /64). Reloadable.
type IPRate struct {
	Window time.Duration `name:"window" help:"Time in which one source address may send count requests." default:"1s"`
	Count  int           `name:"count" help:"Requests that one source address may send per window; 0 is unlimited." default:"10000"`
}

// Orders are the values of the orders.* keys that the door needs. cmd sets them; zero is the
// default.
type Orders struct {
	MaxAge time.Duration // orders.max_age: longest life of an order, and the duplicate window
	MaxTxs int           // orders.max_txs
}

// Config is the door's configuration under "ingress.".
type Config struct {
	Listen        string `name:"listen" help:"Address for orders." default:"127.0.0.1:8080" env:"MILLRACE_INGRESS_LISTEN,USER_LISTEN_ADDR"`
	BuilderListen string `name:"builder_listen" help:"Address for statistics posted by the builder; empty is off." env:"MILLRACE_INGRESS_BUILDER_LISTEN,BUILDER_LISTEN_ADDR"`

	ReplayListen    string `name:"replay_listen" help:"Address for marked replays: orders sent there with the replay credential are checked, answered and recorded apart from live ones and go to no builder; empty is off."`
	ReplayTokenFile string `name:"replay_token_file" help:"File with the replay credential; made in the data directory when not set."`

	MaxBody     int64         `name:"max_body" help:"Largest request body, before and after decompression." default:"10MiB" type:"bytes"`
	MaxBatch    int           `name:"max_batch" help:"Most calls in one JSON-RPC batch." default:"32"`
	Gzip        bool          `name:"gzip" help:"Accept gzip bodies; the signature covers the plain body." default:"true" negatable:""`
	Dialect     Dialect       `name:"dialect" help:"Errors and counters as FlowProxy (v2) or as the first proxy (v1)." default:"v2" enum:"v1,v2"`
	VerdictWait time.Duration `name:"verdict_wait" help:"Longest wait for the worker's verdict; 0 answers once stored." default:"250ms"`

	TLS            TLS       `embed:"" prefix:"tls."`
	RateLimit      RateLimit `embed:"" prefix:"rate_limit."`
	ShedAge        ShedAge   `embed:"" prefix:"shed_age."`
	IPRate         IPRate    `embed:"" prefix:"ip_rate."`
	IPBytes        int64     `name:"ip_bytes" help:"Bytes that one source address may have stored within orders.max_age; 0 is unlimited." default:"2GiB" type:"bytes"`
	TrustedProxies []string  `name:"trusted_proxies" help:"Networks (CIDR) whose X-Forwarded-For is believed."`

	InflightBytes  int64         `name:"inflight_bytes" help:"Memory for bodies being read and orders being stored; a quarter is kept for bodies up to 64 KiB." default:"256MiB" type:"bytes"`
	MaxConnections int           `name:"max_connections" help:"Open connections of the order listener; more wait to be accepted." default:"8192"`
	BodyTimeout    time.Duration `name:"body_timeout" help:"Time for a request's headers and first 64 KiB; the rest must come at min_body_rate." default:"5s"`
	MinBodyRate    int64         `name:"min_body_rate" help:"Bytes per second below which a large body is cut off." default:"256KiB" type:"bytes"`
	GateQueue      int           `name:"gate_queue" help:"Requests that may wait for a CPU; the least known sender is refused first." default:"1024"`
	GateWait       time.Duration `name:"gate_wait" help:"Longest wait for a CPU." default:"1s"`
	CPUSlots       int           `name:"cpu_slots" help:"Requests verified at once; 0 is one per CPU."`
	BulkSlots      int           `name:"bulk_slots" help:"Requests of unknown senders handled at once, and as many of those who mostly send low orders; fewer while the CPUs are busy, the low ones first." default:"64"`
	RefusalDelay   time.Duration `name:"refusal_delay" help:"How long a request that is refused for want of capacity waits for its answer, so that asking again costs its sender; 0 answers at once." default:"1s"`
	MaxEntities    int           `name:"max_entities" help:"Signers whose activity is remembered." default:"32768"`
	PublishTimeout time.Duration `name:"publish_timeout" help:"Longest wait for the store." default:"5s"`
	DrainDelay     time.Duration `name:"drain_delay" help:"Time between turning unready and refusing connections." default:"500ms"`
	DrainTimeout   time.Duration `name:"drain_timeout" help:"Longest wait for requests in flight at shutdown." default:"10s"`

	Orders Orders `kong:"-"`
	// Credential makes this a door for marked replays, see ForReplays; empty: one for live orders.
	Credential string `kong:"-"`
}

// DefaultConfig is the configuration that the flag defaults describe.
func DefaultConfig() Config {
	return Config{
		Listen:   "127.0.0.1:8080",
		MaxBody:  10 << 20,
		MaxBatch: 32, Gzip: true, Dialect: DialectV2, VerdictWait: 250 * time.Millisecond,
		RateLimit: RateLimit{Window: time.Second, Count: 500},
		ShedAge:   ShedAge{High: 10 * time.Second, Medium: 4 * time.Second, Low: time.Second},
		IPRate:    IPRate{Window: time.Second, Count: 10_000},
		IPBytes:   2 << 30, InflightBytes: 256 << 20, MaxConnections: 8192,
		BodyTimeout: 5 * time.Second, MinBodyRate: 256 << 10,
		GateQueue: 1024, GateWait: time.Second, BulkSlots: 64, RefusalDelay: time.Second, MaxEntities: 32_768,
		PublishTimeout: 5 * time.Second, DrainDelay: 500 * time.Millisecond, DrainTimeout: 10 * time.Second,
		Orders: Orders{MaxAge: 36 * time.Second, MaxTxs: 100},
	}
}

// Validate reports every fault of c, joined; each wraps ErrConfig.
func (c *Config) Validate() error {
	_, proxies := c.proxies()
	faults := []error{
		address("listen", c.Listen),
		optionalAddress("builder_listen", c.BuilderListen),
		optionalAddress("replay_listen", c.ReplayListen),
		proxies,
		atLeast("max_body", c.MaxBody, 1<<10),
		atLeast("inflight_bytes", c.InflightBytes, 4*c.MaxBody),
		atLeast("max_batch", c.MaxBatch, 1),
		atLeast("verdict_wait", c.VerdictWait, 0),
		atLeast("shed_age.high", c.ShedAge.High, 0),
		atLeast("shed_age.medium", c.ShedAge.Medium, 0),
		atLeast("shed_age.low", c.ShedAge.Low, 0),
		atLeast("ip_rate.count", c.IPRate.Count, 0),
		atLeast("max_connections", c.MaxConnections, 1),
		atLeast("body_timeout", c.BodyTimeout, time.Millisecond),
		atLeast("min_body_rate", c.MinBodyRate, 1),
		atLeast("gate_queue", c.GateQueue, 1),
		atLeast("gate_wait", c.GateWait, time.Millisecond),
		atLeast("bulk_slots", c.BulkSlots, 1),
		atLeast("refusal_delay", c.RefusalDelay, 0),
		atLeast("cpu_slots", c.CPUSlots, 0),
		atLeast("max_entities", c.MaxEntities, 1),
		atLeast("publish_timeout", c.PublishTimeout, time.Millisecond),
		atLeast("drain_delay", c.DrainDelay, 0),
		atLeast("drain_timeout", c.DrainTimeout, 0),
		atLeast("orders.max_age", c.Orders.MaxAge, 0),
		atLeast("orders.max_txs", c.Orders.MaxTxs, 0),
	}
	if c.Dialect != DialectV1 && c.Dialect != DialectV2 {
		faults = append(faults, fmt.Errorf("%w: dialect must be v1 or v2", ErrConfig))
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		faults = append(faults, fmt.Errorf("%w: tls.cert and tls.key go together", ErrConfig))
	}
	if c.RateLimit.Enabled {
		faults = append(faults,
			atLeast("rate_limit.window", c.RateLimit.Window, time.Millisecond), atLeast("rate_limit.count", c.RateLimit.Count, 1))
	}
	if c.IPRate.Count > 0 {
		faults = append(faults, atLeast("ip_rate.window", c.IPRate.Window, time.Millisecond))
	}
	if c.IPBytes != 0 {
		faults = append(faults, atLeast("ip_bytes", c.IPBytes, c.MaxBody))
	}
	return errors.Join(faults...)
}

// proxies parses the trusted networks.
func (c *Config) proxies() ([]netip.Prefix, error) {
	nets, err := clientip.Networks(c.TrustedProxies)
	if err != nil {
		return nil, fmt.Errorf("%w: trusted_proxies: %w", ErrConfig, err)
	}
	return nets, nil
}

func atLeast[N int | int64 | time.Duration](key string, n, low N) error {
	if n >= low {
		return nil
	}
	return fmt.Errorf("%w: %s must be at least %v", ErrConfig, key, low)
}

func address(key, addr string) error {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrConfig, key, err)
	}
	return nil
}

func optionalAddress(key, addr string) error {
	if addr == "" {
		return nil
	}
	return address(key, addr)
}
