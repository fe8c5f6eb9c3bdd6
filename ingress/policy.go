package ingress

import (
	"cmp"
	"net/netip"
	"strings"
)

// policy is the configuration in force, parsed. A request takes it once and keeps it.
type policy struct {
	Config
	trusted []netip.Prefix
	source  sourceLimits
}

func newPolicy(cfg Config) (*policy, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	orders := DefaultConfig().Orders
	cfg.Orders.MaxAge = cmp.Or(cfg.Orders.MaxAge, orders.MaxAge)
	cfg.Orders.MaxTxs = cmp.Or(cfg.Orders.MaxTxs, orders.MaxTxs)
	trusted, err := cfg.proxies()
	if err != nil {
		return nil, err
	}
	return &policy{
		Config:  cfg,
		trusted: trusted,
		source:  sourceLimits{rate: cfg.IPRate, bytes: cfg.IPBytes, window: cfg.Orders.MaxAge},
	}, nil
}

// fixed returns next with all that can't change while running as in p, and the names of the keys
// for which that made a difference.
func (p *policy) fixed(next Config) (Config, []string) {
	next.Orders.MaxAge = cmp.Or(next.Orders.MaxAge, DefaultConfig().Orders.MaxAge)
	var changed []string
	keepKey(&changed, "listen", p.Listen, &next.Listen)
	keepKey(&changed, "builder_listen", p.BuilderListen, &next.BuilderListen)
	keepKey(&changed, "replay_listen", p.ReplayListen, &next.ReplayListen)
	keepKey(&changed, "replay_token_file", p.ReplayTokenFile, &next.ReplayTokenFile)
	next.Credential = p.Credential
	if (p.TLS == TLS{}) != (next.TLS == TLS{}) { // on or off; other files are fine
		keepKey(&changed, "tls", p.TLS, &next.TLS)
	}
	keepKey(&changed, "max_connections", p.MaxConnections, &next.MaxConnections)
	keepKey(&changed, "inflight_bytes", p.InflightBytes, &next.InflightBytes)
	keepKey(&changed, "body_timeout", p.BodyTimeout, &next.BodyTimeout)
	keepKey(&changed, "gate_queue", p.GateQueue, &next.GateQueue)
	keepKey(&changed, "bulk_slots", p.BulkSlots, &next.BulkSlots)
	keepKey(&changed, "cpu_slots", p.CPUSlots, &next.CPUSlots)
	keepKey(&changed, "max_entities", p.MaxEntities, &next.MaxEntities)
	keepKey(&changed, "orders.max_age", p.Orders.MaxAge, &next.Orders.MaxAge)
	return next, changed
}

// keepKey puts old back into next, and notes the key when they differ.
func keepKey[T comparable](changed *[]string, key string, old T, next *T) {
	if *next != old {
		*next = old
		if !strings.HasPrefix(key, "orders.") {
			key = "ingress." + key
		}
		*changed = append(*changed, key)
	}
}
