package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"gopkg.in/yaml.v3"
)

// gatewayAxonCmd reads axon-proxy's configuration.
type gatewayAxonCmd struct {
	File string `arg:"" placeholder:"FILE" type:"path" help:"axon-proxy's TOML file."`
}

// Help is the long help text.
func (gatewayAxonCmd) Help() string {
	return `Prints YAML for --config, and on standard error what there is no key for. A key that axon-proxy does not know is an error here, too.`
}

// Run prints the configuration.
func (c *gatewayAxonCmd) Run(a *app) error {
	b, err := os.ReadFile(c.File)
	if err != nil {
		return usage(err)
	}
	out, notes, err := fromAxon(b)
	if err != nil {
		return usage(fmt.Errorf("%s: %w", c.File, err))
	}
	for _, n := range notes {
		_, _ = fmt.Fprintln(a.stderr, "note:", n)
	}
	_, err = a.stdout.Write(out)
	return err
}

// axonConfig is axon-proxy's configuration; what is nil was not said.
type axonConfig struct {
	Bind  any `toml:"bind"` // a port, or an address
	Nodes []struct {
		URL    string   `toml:"url"`
		Weight *float64 `toml:"weight"`
	} `toml:"nodes"`
	WSNodes        []string       `toml:"ws_nodes"`
	Redis          map[string]any `toml:"redis"`
	RateLimit      *axonLimit     `toml:"rate_limit"`
	Cache          *axonCache     `toml:"cache"`
	FilterTTL      *int           `toml:"filter_ttl_secs"`
	ConnectTimeout *int           `toml:"connect_timeout_secs"`
	LB             string         `toml:"lb"`
	HealthCheck    *axonCheck     `toml:"health_check"`
}

// axonBudget is calls per minute.
type axonBudget struct {
	Total  *int           `toml:"total"`
	Method map[string]int `toml:"method"`
}

type axonLimit struct {
	axonBudget

	IP map[string]axonBudget `toml:"ip"`
}

type axonCache struct {
	Expire      *int `toml:"expire_milliseconds"`
	Call        bool `toml:"eth_call"`
	EstimateGas bool `toml:"eth_estimateGas"`
}

type axonCheck struct {
	Enabled     *bool `toml:"enabled"`
	Timeout     *int  `toml:"timeout_secs"`
	Interval    *int  `toml:"interval_secs"`
	Concurrency *int  `toml:"concurrency"`
}

// fromAxon is the configuration that does what axon-proxy's does, and what can't be said in it.
func fromAxon(text []byte) (out []byte, notes []string, err error) {
	var c axonConfig
	d := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok {
			return nil, nil, fmt.Errorf("unknown keys:\n%s", strict.String())
		}
		if fault, ok := errors.AsType[*toml.DecodeError](err); ok {
			return nil, nil, fmt.Errorf("%w:\n%s", err, fault.String())
		}
		return nil, nil, err
	}
	addr, err := c.addr()
	if err != nil {
		return nil, nil, err
	}
	nodes, notes := c.nodes()
	g := map[string]any{"listeners": []map[string]any{{"addr": addr, "dialect": "jsonrpc"}}, "nodes": nodes}
	if c.LB != "" {
		g["lb"] = c.LB
	}
	setSeconds(g, "connect_timeout", c.ConnectTimeout)
	if r := c.RateLimit; r != nil {
		if err := r.positive(); err != nil {
			return nil, nil, err
		}
		g["rate_limit"] = r.limits()
		notes = append(notes, "trusted_proxies: the address of a client is believed from there only; axon-proxy believed everybody's X-Forwarded-For")
	}
	if k := c.Cache; k != nil {
		cache := map[string]any{"eth_call": k.Call, "eth_estimateGas": k.EstimateGas}
		if k.Expire != nil {
			cache["ttl"] = (time.Duration(*k.Expire) * time.Millisecond).String()
		}
		g["cache"] = cache
	}
	if h := c.HealthCheck; h != nil {
		g["health_check"] = h.check()
	}
	for key, said := range map[string]bool{
		"redis: the gateway keeps nothing there": c.Redis != nil, "filter_ttl_secs: filters live as long as at their nodes": c.FilterTTL != nil,
		"health_check.concurrency: all nodes are checked at the same time": c.HealthCheck != nil && c.HealthCheck.Concurrency != nil,
	} {
		if said {
			notes = append(notes, key)
		}
	}
	slices.Sort(notes)
	out, err = yaml.Marshal(map[string]any{"gateway": g})
	return out, notes, err
}

// addr is where it listens: a port alone is one of every address.
func (c *axonConfig) addr() (string, error) {
	switch b := c.Bind.(type) {
	case int64:
		return "0.0.0.0:" + strconv.FormatInt(b, 10), nil
	case string:
		if _, err := strconv.ParseUint(b, 10, 16); err == nil {
			return "0.0.0.0:" + b, nil
		}
		if _, _, err := net.SplitHostPort(b); err == nil {
			return b, nil
		}
	}
	return "", fmt.Errorf("bind: %v is neither a port nor an address", c.Bind)
}

// nodes are the nodes, each with the WebSocket of its host: axon-proxy has those in a list of their own.
func (c *axonConfig) nodes() (nodes []map[string]any, notes []string) {
	sockets := map[string][]string{} // of a host, in their order
	for _, ws := range c.WSNodes {
		sockets[hostname(ws)] = append(sockets[hostname(ws)], ws)
	}
	for _, n := range c.Nodes {
		node := map[string]any{"url": n.URL}
		if n.Weight != nil {
			node["weight"] = *n.Weight
		}
		if host := hostname(n.URL); len(sockets[host]) > 0 {
			node["ws_url"], sockets[host] = sockets[host][0], sockets[host][1:]
		}
		nodes = append(nodes, node)
	}
	for _, host := range slices.Sorted(maps.Keys(sockets)) {
		if len(sockets[host]) > 0 {
			notes = append(notes, "ws_nodes: no node is left for one at "+host+"; name its WebSocket as the ws_url of one")
		}
	}
	return nodes, notes
}

// hostname is a URL's host without its port, which a node's two listeners don't share.
func hostname(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

// errAxonZero refuses a limit of which there is no equal: 0 lets nobody through there, and everybody here.
var errAxonZero = errors.New("rate_limit: 0 refuses every call there and none here: name the method in methods.deny instead")

func (l *axonLimit) positive() error {
	for _, b := range append(slices.Collect(maps.Values(l.IP)), l.axonBudget) {
		if b.Total != nil && *b.Total <= 0 || slices.ContainsFunc(slices.Collect(maps.Values(b.Method)), func(n int) bool { return n <= 0 }) {
			return errAxonZero
		}
	}
	return nil
}

func (l *axonLimit) limits() map[string]any {
	all := map[string]any{}
	l.put(all, func(method map[string]int) any { return perMinute(method) })
	var ips []map[string]any
	for _, addr := range slices.Sorted(maps.Keys(l.IP)) {
		b := l.IP[addr]
		ip := map[string]any{"addr": addr}
		b.put(ip, func(method map[string]int) any {
			var list []string
			for _, name := range slices.Sorted(maps.Keys(method)) {
				list = append(list, fmt.Sprintf("%s=%d/m", name, method[name]))
			}
			return list
		})
		ips = append(ips, ip)
	}
	if len(ips) > 0 {
		all["ip"] = ips
	}
	return all
}

// put writes a budget, its methods as form has them.
func (b *axonBudget) put(to map[string]any, form func(map[string]int) any) {
	if b.Total != nil {
		to["total"] = strconv.Itoa(*b.Total) + "/m"
	}
	if len(b.Method) > 0 {
		to["method"] = form(b.Method)
	}
}

func perMinute(method map[string]int) map[string]string {
	rates := make(map[string]string, len(method))
	for name, n := range method {
		rates[name] = strconv.Itoa(n) + "/m"
	}
	return rates
}

func (h *axonCheck) check() map[string]any {
	c := map[string]any{}
	if h.Enabled != nil && !*h.Enabled {
		c["check"] = "none"
	}
	setSeconds(c, "timeout", h.Timeout)
	setSeconds(c, "interval", h.Interval)
	return c
}

// setSeconds sets a key that was said.
func setSeconds(to map[string]any, key string, n *int) {
	if n != nil {
		to[key] = (time.Duration(*n) * time.Second).String()
	}
}
