package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"millrace/egress/nodes/health"
	"millrace/internal/telemetry"
)

// gatewayCmd is the gateway, and commands for one that runs.
type gatewayCmd struct {
	Serve gatewayRunCmd   `cmd:"" name:"run" default:"withargs" help:"Run the gateway. This is the default."`
	Axon  gatewayAxonCmd  `cmd:"" name:"from-axon" help:"Print the configuration that does what axon-proxy's does."`
	Nodes gatewayNodesCmd `cmd:"" help:"Print the nodes and how they stand, or add or remove one, through a running process's admin listener."`
}

// gatewayRunCmd runs the gateway.
type gatewayRunCmd struct {
	settings `embed:""`
	PLB      prioLB `embed:"" group:"prio-load-balancer"`
}

// Help is the long help text.
func (gatewayRunCmd) Help() string {
	return `One endpoint over many execution nodes, with queues by priority (X-Fast-Track, X-High-Priority), health checks, retries, a cache, filters and subscriptions that survive a node. A first try: millrace gateway --mock-node.

Doors: 127.0.0.1:8080 speaks prio-load-balancer's dialect, 127.0.0.1:8000 JSON-RPC over HTTP and WebSockets; gateway.listeners says otherwise. Embeds a NATS server unless nats.url is set; gateways at the same one share the nodes that are added at run time, their limits, and with gateway.queue=shared their queues.

Users of prio-load-balancer keep its environment variables and flags, with two dashes.`
}

// prioLB are the flags of prio-load-balancer.
type prioLB struct {
	HTTP        string   `name:"http" placeholder:"ADDR" help:"prio-load-balancer's name for gateway.listen."`
	NodeWorkers int      `name:"node-workers" help:"Its name for gateway.node_workers."`
	Nodes       []string `name:"nodes" placeholder:"URL" help:"Its name for gateway.node_urls."`
	Backends    []string `name:"backends" placeholder:"URL" help:"Its older name for the same."`
	Redis       string   `name:"redis" placeholder:"ADDR" help:"Not used: the set of nodes is kept on the bus."`
	MockNode    bool     `name:"mock-node" help:"Its name for gateway.mock_node."`
	LogProd     bool     `name:"log-prod" help:"Its name for log.format=json."`
	LogService  string   `name:"log-service" placeholder:"NAME" help:"Its name for node.name."`
}

// AfterApply puts prio-load-balancer's flags into the configuration, at every reading of the command line.
func (c *gatewayRunCmd) AfterApply() error { //nolint:unparam // kong's hook
	g, p := &c.Keys.Gateway, &c.PLB
	if p.HTTP != "" {
		g.Listen = p.HTTP
	}
	if p.NodeWorkers > 0 {
		g.Pool.Workers = p.NodeWorkers
	}
	g.URLs = append(slices.Clone(g.URLs), append(p.Nodes, p.Backends...)...)
	g.Mock = g.Mock || p.MockNode
	if p.LogProd {
		c.Keys.Log.Format = "json"
	}
	if p.LogService != "" {
		c.Keys.Node.Name = p.LogService
	}
	return nil
}

// Run runs the gateway.
func (c *gatewayRunCmd) Run(ctx context.Context, a *app) error { return a.serve(ctx, roleGateway) }

// gatewayReloadable reports whether a key of the gateway takes effect without a restart.
func gatewayReloadable(key string) bool {
	return !slices.Contains([]string{
		"gateway.listeners", "gateway.listen", "gateway.listen_jsonrpc", "gateway.max_connections", "gateway.mock_node", "gateway.queue", "gateway.drain",
	}, key)
}

// fixed reports whether a key needs a restart because the queues are on the bus, where their streams were made
// with it and other gateways count on it.
func (g *gatewayRole) fixed(key string) bool {
	return g != nil && g.queue != nil && slices.Contains([]string{"gateway.queues.timeout", "gateway.max_answer"}, key)
}

// gatewayNodesCmd prints or changes the nodes.
type gatewayNodesCmd struct {
	adminAt `embed:""`
	Add     string `name:"add" placeholder:"URL" xor:"change" help:"Add a node, on all gateways at this bus, for good."`
	Remove  string `name:"remove" placeholder:"URL" xor:"change" help:"Remove a node, named as it was added."`
	JSON    bool   `name:"json" help:"Print JSON."`
}

// nodeView is a node as the command reads it.
type nodeView struct {
	URI       string        `json:"uri"` // without credentials
	State     string        `json:"state"`
	Reason    string        `json:"reason,omitempty"`
	Since     time.Time     `json:"since"`
	Height    uint64        `json:"height"`
	HeadAge   time.Duration `json:"head_age_ns"`
	Busy      int           `json:"busy"`
	Places    int           `json:"places"`
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
	ErrorRate float64       `json:"error_rate"`
	LastError string        `json:"last_error,omitempty"`
}

// Run prints the nodes.
func (c *gatewayNodesCmd) Run(ctx context.Context, a *app) error {
	for path, uri := range map[string]string{"/gateway/add": c.Add, "/gateway/remove": c.Remove} {
		if uri == "" {
			continue
		}
		if c.TokenFile == "" {
			c.TokenFile = filepath.Join("data", "admin.token")
		}
		resp, err := c.do(ctx, http.MethodPost, path+"?"+url.Values{"uri": {uri}}.Encode(), "gateway nodes")
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
	}
	if c.JSON {
		return c.print(ctx, "/gateway", "gateway nodes", a.stdout)
	}
	var all []nodeView
	if err := c.read(ctx, "/gateway", "gateway nodes", &all); err != nil {
		return err
	}
	t := newTable(a.stdout, "NODE", "STATE", "HEIGHT", "AGE", "BUSY", "PLACES", "P50", "P99", "ERRORS", "REASON")
	for _, n := range all {
		why := n.Reason
		if why == "" {
			why = n.LastError
		}
		t.row(n.URI, n.State, n.Height, n.HeadAge.Round(time.Second), n.Busy, n.Places, n.P50.Round(time.Microsecond), n.P99.Round(time.Microsecond),
			fmt.Sprintf("%.1f%%", 100*n.ErrorRate), orDash(why))
	}
	return t.flush()
}

// views are the nodes as the page shows them.
func (g *gatewayRole) views() []nodeView {
	load := g.pool.Load()
	all := g.pool.Status()
	out := make([]nodeView, len(all))
	for i, s := range all {
		l := load[s.Node.Tag]
		out[i] = nodeView{
			URI: s.Node.Label, State: s.State.String(), Since: s.Since, Height: s.Height, HeadAge: s.HeadAge, Busy: l.Busy, Places: l.Places,
			P50: s.P50, P99: s.P99, ErrorRate: s.ErrorRate, LastError: s.LastError,
		}
		if s.State != health.Healthy {
			out[i].Reason = string(s.Reason)
		}
	}
	return out
}

// gatewayPages are the admin listener's pages about the nodes.
func (p *process) gatewayPages() []telemetry.Page {
	if p.gateway == nil {
		return nil
	}
	g := p.gateway
	return []telemetry.Page{
		{Pattern: "GET /gateway", Access: telemetry.AccessRead, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, g.views())
		})},
		{Pattern: "POST /gateway/add", Access: telemetry.AccessWrite, Handler: changePage(g.set.Add)},
		{Pattern: "POST /gateway/remove", Access: telemetry.AccessWrite, Handler: changePage(g.set.Remove)},
	}
}

func changePage(change func(context.Context, string) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := change(r.Context(), r.URL.Query().Get("uri")); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}
