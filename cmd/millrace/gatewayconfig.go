package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"millrace/egress/nodes"
	subscriptions "millrace/egress/nodes/feed"
	"millrace/ingress/rpc"
	"millrace/ingress/rpc/cache"
	"millrace/ingress/rpc/limit"
	"millrace/ingress/rpc/socket"
	"millrace/internal/rpcapi"
)

// Gateway is everything about the JSON-RPC gateway: gateway.* in the configuration.
type Gateway struct {
	Listeners     []Listener `name:"listeners" help:"Doors: addr, dialect (prio or jsonrpc), tls_cert, tls_key. None: those of gateway.listen and gateway.listen_jsonrpc."`
	Listen        string     `name:"listen" help:"Address of a door that speaks prio-load-balancer's dialect, unless gateway.listeners is set. Empty: none. In millrace node: none by default." default:"127.0.0.1:8080" env:"MILLRACE_GATEWAY_LISTEN,LISTEN_ADDR"`
	ListenJSONRPC string     `name:"listen_jsonrpc" help:"Address of a door for JSON-RPC over HTTP and WebSockets, unless gateway.listeners is set. Empty: none." default:"127.0.0.1:8000"`

	Nodes []NodeEntry `name:"nodes" help:"Execution nodes: url (may say ?_workers=N, and what the node must prove: https://TDX_…@host), workers, weight, ws_url."`
	URLs  []string    `name:"node_urls" help:"More nodes, by their URLs alone." env:"MILLRACE_GATEWAY_NODE_URLS,NODES"`
	More  []string    `name:"backends" help:"The same, by prio-load-balancer's older name." hidden:"" env:"MILLRACE_GATEWAY_BACKENDS,BACKENDS"`
	Mock  bool        `name:"mock_node" help:"Serve from a built-in node that answers everything, for a first try."`

	Queue string `name:"queue" help:"local: each process has its own queues. shared: the calls of all gateway processes are in the same ones, on the bus." default:"local" enum:"local,shared"`

	Pool   nodes.Config  `embed:""`
	Door   rpc.Config    `embed:""`
	Cache  GatewayCache  `embed:"" prefix:"cache."`
	Limit  limit.Config  `embed:"" prefix:"rate_limit."`
	IPs    []IPLimit     `name:"rate_limit.ip" help:"Addresses with limits of their own, in place of those of every address: addr (IPv6: any of the /64), total, method (a list such as eth_call=100/m)."`
	Socket GatewaySocket `embed:"" prefix:"ws."`
	Feed   GatewayFeed   `embed:"" prefix:"subscriptions."`

	// elsewhere: gateways in other processes may use this one's bus, whose configuration need not know of any node.
	elsewhere bool
}

// GatewayCache is what of the nodes' answers is kept.
type GatewayCache struct {
	MaxBytes    int64         `name:"max_bytes" help:"Memory for answers that are kept; 0: none are. Answers about finalized blocks are kept until there is no room, those about the head until there is another." default:"64MiB" type:"bytes"`
	TTL         time.Duration `name:"ttl" help:"How long an answer about the head is kept at most." default:"30s"`
	Call        bool          `name:"eth_call" help:"Keep answers to eth_call, too."`
	EstimateGas bool          `name:"eth_estimateGas" help:"Keep answers to eth_estimateGas, too."`
	Coalesce    bool          `name:"coalesce" help:"Let identical reads that are under way share one answer." default:"true" negatable:""`
}

func (c *GatewayCache) config() cache.Config {
	groups := cache.DefaultMethods()
	if c.Call {
		groups = append(groups, rpcapi.GroupCall)
	}
	if c.EstimateGas {
		groups = append(groups, rpcapi.GroupEstimateGas)
	}
	return cache.Config{MaxBytes: c.MaxBytes, TTL: c.TTL, Methods: groups, Coalesce: c.Coalesce}
}

// GatewaySocket bounds WebSockets of clients.
type GatewaySocket struct {
	MaxConnections   int `name:"max_connections" help:"Most WebSockets of all doors." default:"10000"`
	MaxPerIP         int `name:"max_per_ip" help:"Most WebSockets of one address." default:"256"`
	MaxSubscriptions int `name:"max_subscriptions" help:"Most subscriptions of one WebSocket." default:"128"`
	MaxCalls         int `name:"max_calls" help:"Messages of one WebSocket that are under way at a time." default:"32"`
}

func (g *Gateway) socket() socket.Config {
	c := socket.DefaultConfig()
	c.MaxConnections, c.MaxPerIP, c.MaxSubscriptions, c.MaxCalls = g.Socket.MaxConnections, g.Socket.MaxPerIP, g.Socket.MaxSubscriptions, g.Socket.MaxCalls
	c.MaxMessage, c.Drain = g.Door.MaxBody, g.Door.Drain
	if len(g.Door.CORS) > 0 {
		c.Origins = g.Door.CORS
	}
	return c
}

// GatewayFeed is how subscriptions are served.
type GatewayFeed struct {
	Poll    time.Duration `name:"poll" help:"How often the head is asked for where no node has a ws_url." default:"1s"`
	Silence time.Duration `name:"silence" help:"How long another node may be ahead of the one that tells heads before it takes its place." default:"3s"`
	Linger  time.Duration `name:"linger" help:"How long a subscription at a node outlives its last client." default:"10s"`
	Max     int           `name:"max_distinct" help:"Most distinct subscriptions of all clients." default:"1000"`
}

func (c *GatewayFeed) config() subscriptions.Config {
	f := subscriptions.DefaultConfig()
	f.Poll, f.Silence, f.Linger, f.MaxGroups = c.Poll, c.Silence, c.Linger, c.Max
	return f
}

// Listener is one door.
type Listener struct {
	Addr    string `name:"addr" help:"Address to listen on."`
	Dialect string `name:"dialect" help:"prio or jsonrpc."`
	TLSCert string `name:"tls_cert" help:"PEM file with the certificate chain; TLS is served when set."`
	TLSKey  string `name:"tls_key" help:"PEM file with the certificate's private key."`
}

// NodeEntry is one node of the configuration.
type NodeEntry struct {
	URL     string  `name:"url" help:"Where it takes JSON-RPC over HTTP."`
	Workers int     `name:"workers" help:"Calls that it is given at a time; 0: gateway.node_workers."`
	Weight  float64 `name:"weight" help:"Its share where callers are spread by hash; 0 means 1."`
	WSURL   string  `name:"ws_url" help:"Where it takes subscriptions; without one heads are polled."`
}

// IPLimit is what one address may do.
type IPLimit struct {
	Addr   string     `name:"addr" help:"The address."`
	Total  limit.Rate `name:"total" help:"Calls in all."`
	Method []string   `name:"method" help:"Calls of single methods, such as eth_call=100/m."`
}

// limits are all limits together.
func (g *Gateway) limits() (limit.Config, error) {
	c := g.Limit
	c.IP = make(map[string]limit.Budget, len(g.IPs))
	var errs []error
	for _, ip := range g.IPs {
		b := limit.Budget{Total: ip.Total, Method: map[string]limit.Rate{}}
		for _, m := range ip.Method {
			name, text, found := strings.Cut(m, "=")
			rate, err := limit.ParseRate(text)
			if err != nil || !found {
				errs = append(errs, fmt.Errorf("rate_limit.ip: %s: %.60q is not a method's limit such as eth_call=100/m", ip.Addr, m))
			}
			b.Method[name] = rate
		}
		if _, twice := c.IP[ip.Addr]; twice {
			errs = append(errs, fmt.Errorf("rate_limit.ip: %s is there twice", ip.Addr))
		}
		c.IP[ip.Addr] = b
	}
	return c, errors.Join(append(errs, c.Validate())...)
}

const queueShared = "shared"

// sharedQueueBytes bounds the calls of a class that wait on the bus.
const sharedQueueBytes = 16 << 20

// enabled says that a node has a gateway.
func (g *Gateway) enabled() bool {
	return len(g.Nodes)+len(g.URLs)+len(g.More) > 0 || g.Mock || len(g.Listeners) > 0
}

// fitNode leaves the order door's default port to it.
func (g *Gateway) fitNode(orders string) {
	if len(g.Listeners) == 0 && g.Listen == orders {
		g.Listen = ""
	}
}

// doors are the configurations of the listeners.
func (g *Gateway) doors() []rpc.Config {
	list := g.Listeners
	if len(list) == 0 {
		if g.Listen != "" {
			list = append(list, Listener{Addr: g.Listen, Dialect: string(rpc.DialectPrio)})
		}
		if g.ListenJSONRPC != "" {
			list = append(list, Listener{Addr: g.ListenJSONRPC, Dialect: string(rpc.DialectJSONRPC)})
		}
	}
	all := make([]rpc.Config, len(list))
	at := map[string]int{}
	for i, l := range list {
		all[i] = g.Door
		if at[l.Addr]++; at[l.Addr] > 1 { // several may be at any free port
			all[i].Name = fmt.Sprintf("%s (%d)", l.Addr, at[l.Addr])
		}
		all[i].Listen, all[i].Dialect, all[i].TLS = l.Addr, rpc.Dialect(l.Dialect), rpc.TLS{Cert: l.TLSCert, Key: l.TLSKey}
		if all[i].Dialect == rpc.DialectPrio {
			all[i].Methods = rpc.Methods{} // it does not read what it passes on
		}
	}
	return all
}

// configured are the nodes of the configuration.
func (g *Gateway) configured() (all []*rpcapi.Node, err error) {
	var errs []error
	entries := append([]NodeEntry{}, g.Nodes...)
	for _, u := range append(append([]string{}, g.URLs...), g.More...) {
		entries = append(entries, NodeEntry{URL: u})
	}
	seen := map[rpcapi.Tag]bool{}
	for _, e := range entries {
		n, err := e.node()
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("gateway.nodes: %w", err))
		case !seen[n.Tag]: // NODES and BACKENDS may name the same
			seen[n.Tag] = true
			all = append(all, n)
		}
	}
	return all, errors.Join(errs...)
}

func (e *NodeEntry) node() (*rpcapi.Node, error) {
	n, err := rpcapi.ParseNode(e.URL)
	if err != nil {
		return nil, err
	}
	if e.Workers > 0 {
		n.Workers = e.Workers
	}
	if e.Weight > 0 {
		n.Weight = e.Weight
	}
	if e.Workers < 0 || e.Weight < 0 {
		return nil, fmt.Errorf("%s: workers and weight must not be negative", n.Label)
	}
	if e.WSURL != "" {
		if n.WS, err = url.Parse(e.WSURL); err != nil || n.WS.Scheme != "ws" && n.WS.Scheme != "wss" || n.WS.Host == "" {
			return nil, fmt.Errorf("%s: ws_url: expected ws://host or wss://host", n.Label)
		}
	}
	return n, nil
}

// Validate reports every fault.
func (g *Gateway) Validate() error {
	_, err := g.configured()
	errs := []error{err, g.Pool.Validate()}
	part := func(key string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("gateway%s: %w", key, err))
		}
	}
	sockets, feeds := g.socket(), g.Feed.config()
	part(".cache", g.Cache.config().Validate())
	_, limits := g.limits()
	part("", limits)
	part(".ws", sockets.Validate())
	part(".subscriptions", feeds.Validate())
	doors := g.doors()
	if len(doors) == 0 {
		errs = append(errs, errors.New("gateway.listeners: no door is left"))
	}
	at := map[string]bool{}
	for i := range doors {
		part(".listeners: "+doors[i].Listen, doors[i].Validate())
		if at[doors[i].Listen] && !strings.HasSuffix(doors[i].Listen, ":0") {
			errs = append(errs, fmt.Errorf("gateway.listeners: two doors at %s", doors[i].Listen))
		}
		at[doors[i].Listen] = true
	}
	return errors.Join(errs...)
}
