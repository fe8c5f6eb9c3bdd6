package limit

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"millrace/internal/clientip"
)

// Budget is what one subject may do: in total, and of single methods.
type Budget struct {
	Total  Rate            `name:"total" help:"Calls in all, such as 100/s; a number alone is per minute."`
	Method map[string]Rate `name:"method" help:"Calls of single methods."`
}

// Config is gateway.rate_limit; total, method and ip are axon-proxy's. Zero: nothing is limited.
type Config struct {
	Budget `embed:""` // of each client address
	// IP has addresses with budgets of their own, which replace that of all others; IPv6 by any address of the /64.
	IP     map[string]Budget `kong:"-"`
	PerKey Budget            `embed:"" prefix:"per_key."`
	All    Budget            `embed:"" prefix:"all."` // everybody together
	// Clients bounds the addresses, and the keys, that are remembered; zero: 65,536.
	Clients int `name:"clients" help:"Addresses, and keys, that are remembered at most; the least recently used are forgotten first." default:"65536"`
}

const defaultClients = 1 << 16

// maxMethods bounds the methods with limits of their own.
const maxMethods = 1024

// Validate returns every fault of c.
func (c *Config) Validate() error {
	_, err := compile(*c)
	return err
}

// rule is one limit as windows need it; zero: none.
type rule struct {
	limit uint32
	slot  time.Duration // a window has slots of them
}

// rules is a Config made ready; nothing in it changes.
type rules struct {
	methods map[string]int // from one; rules of a budget are indexed by it, zero: the total
	names   []string       // by the same index
	ip      []rule
	ips     map[netip.Addr][]rule
	key     []rule
	all     []rule
	longest time.Duration
	clients int
}

func compile(c Config) (*rules, error) {
	r := &rules{methods: map[string]int{}, names: []string{""}, ips: map[netip.Addr][]rule{}, clients: c.Clients}
	if r.clients == 0 {
		r.clients = defaultClients
	}
	var errs []error
	if r.clients < shards {
		errs = append(errs, fmt.Errorf("rate_limit.clients: %d is less than %d", c.Clients, shards))
	}
	budgets := append([]Budget{c.Budget, c.PerKey, c.All}, slices.Collect(maps.Values(c.IP))...)
	for _, b := range budgets {
		for name, rate := range b.Method {
			if name == "" {
				errs = append(errs, errors.New("rate_limit: a method without a name"))
			}
			if rate.Count > 0 && r.methods[name] == 0 {
				r.methods[name] = len(r.names)
				r.names = append(r.names, name)
			}
		}
	}
	if len(r.methods) > maxMethods {
		errs = append(errs, fmt.Errorf("rate_limit: %d methods with limits, more than %d", len(r.methods), maxMethods))
	}
	ready := func(what string, b Budget) []rule {
		rs, err := r.budget(b)
		if err != nil {
			errs = append(errs, fmt.Errorf("rate_limit%s: %w", what, err))
		}
		return rs
	}
	r.ip, r.key, r.all = ready("", c.Budget), ready(".per_key", c.PerKey), ready(".all", c.All)
	for text, b := range c.IP {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("rate_limit.ip: %.60q is no address", text))
			continue
		}
		r.ips[clientip.Site(addr)] = ready(".ip."+text, b)
	}
	return r, errors.Join(errs...)
}

// budget returns the rules of a budget, nil when it limits nothing.
func (r *rules) budget(b Budget) ([]rule, error) {
	rs := make([]rule, len(r.names))
	limited := false
	var errs []error
	set := func(i int, rate Rate) {
		if rate.Count == 0 {
			return
		}
		if rate.Count < 0 || rate.Count > maxCount || rate.Window < minWindow || rate.Window > maxWindow {
			errs = append(errs, fmt.Errorf("%w: %d in %s", ErrRate, rate.Count, rate.Window))
			return
		}
		limited = true
		rs[i] = rule{uint32(rate.Count), rate.Window / slots}
		r.longest = max(r.longest, rate.Window)
	}
	set(0, b.Total)
	for name, rate := range b.Method {
		set(r.methods[name], rate)
	}
	if !limited {
		rs = nil
	}
	return rs, errors.Join(errs...)
}

// off reports whether nothing is limited.
func (r *rules) off() bool { return r.longest == 0 }
