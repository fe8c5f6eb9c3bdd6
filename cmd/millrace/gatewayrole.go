package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"millrace/egress/nodes"
	subscriptions "millrace/egress/nodes/feed"
	"millrace/ingress/rpc"
	"millrace/ingress/rpc/cache"
	"millrace/ingress/rpc/limit"
	"millrace/ingress/rpc/socket"
	"millrace/internal/bus/gateway"
	"millrace/internal/jsonrpc"
	"millrace/internal/lifecycle"
	"millrace/internal/retry"
	"millrace/internal/rpcapi"
)

// gatewayRole is the JSON-RPC gateway's part of a process.
type gatewayRole struct {
	cfg *Gateway // as the process began
	log *slog.Logger

	mock    *mockNode
	pool    *nodes.Pool
	set     *nodeSet
	feed    *subscriptions.Feed
	queue   *gateway.Queue // nil: local queues
	limits  *limit.Limiter
	cache   *cache.Cache
	sockets *socket.Server
	doors   []*rpc.Door
}

// buildGateway makes the gateway's part, if this process has one.
func (p *process) buildGateway(ctx context.Context) (err error) {
	if !p.roles.has(roleGateway) {
		return nil
	}
	g := &gatewayRole{cfg: &p.cfg.Gateway, log: p.part("gateway")}
	p.gateway = g
	configured, err := g.cfg.configured()
	if err != nil {
		return usage(err)
	}
	if g.cfg.Mock {
		if g.mock, err = newMockNode(ctx, g.log); err != nil {
			return err
		}
		n, err := rpcapi.ParseNode(g.mock.url())
		if err != nil {
			return err
		}
		configured = append(configured, n)
	}
	g.cfg.Pool.Drain = g.cfg.Door.Drain
	if g.pool, err = nodes.New(g.cfg.Pool, nil, p.part("nodes"), p.reg); err != nil {
		return usage(err)
	}
	g.set = &nodeSet{pool: g.pool, shared: gateway.NewNodes(p.bus, g.log), log: g.log}
	g.set.configure(ctx, configured)
	if g.feed, err = subscriptions.New(g.cfg.Feed.config(), subscriptions.Ports{Calls: listening{g.pool}, Nodes: standing{g.pool}, Learner: g.pool}, p.part("feed"), p.reg); err != nil {
		return usage(err)
	}
	limits, err := g.cfg.limits()
	if err != nil {
		return usage(err)
	}
	if g.limits, err = limit.New(limits, gateway.NewGossip(p.bus), g.log, p.reg); err != nil {
		return usage(err)
	}
	if g.cache, err = cache.New(g.cfg.Cache.config(), g.pool, p.reg); err != nil {
		return usage(err)
	}
	if g.cfg.Queue == queueShared {
		g.queue = gateway.NewQueue(g.cfg.shared(p.cfg.NATS.Replicas), p.bus, g.log, p.reg)
	}
	return g.buildDoors(p)
}

// shared is the configuration of the queues on the bus.
func (g *Gateway) shared(replicas int) gateway.QueueConfig {
	q := &g.Pool.Queue
	return gateway.QueueConfig{
		Timeout: q.Timeout, MaxAnswer: g.Pool.MaxAnswer, Replicas: replicas, Order: servingOrder(q), Repeatable: nodes.Repeatable,
	}
}

// servingOrder is the serving order of the queues on the bus.
func servingOrder(q *nodes.Queues) gateway.Order {
	o := gateway.Order{FastPerHigh: q.FastPerHigh, LowEvery: q.LowEvery}
	if q.DrainFast {
		o.Drain = gateway.DrainFirst
	}
	return o
}

// buildDoors makes the doors, and the WebSockets that they share.
func (g *gatewayRole) buildDoors(p *process) (err error) {
	var caller rpc.Caller = g.pool
	if g.queue != nil {
		caller = offered{g.queue}
	}
	calls := &socketCalls{}
	g.sockets, err = socket.New(g.cfg.socket(), socket.Ports{Calls: calls, Subscriber: g.feed, Gate: calls}, g.log, p.reg)
	if err != nil {
		return usage(err)
	}
	for _, cfg := range g.cfg.doors() {
		ports := rpc.Ports{Caller: caller, Limits: g.limits, Cache: g.cache, Nodes: g.set}
		upgrades := &upgrader{sockets: g.sockets}
		if cfg.Dialect == rpc.DialectJSONRPC {
			ports.Sockets = upgrades
		}
		door, err := rpc.New(cfg, ports, p.part("rpc"), p.reg)
		if err != nil {
			return usage(fmt.Errorf("gateway.listeners: %w", err))
		}
		upgrades.door = door
		if cfg.Dialect == rpc.DialectJSONRPC && calls.door == nil {
			calls.door = door
		}
		g.doors = append(g.doors, door)
	}
	return nil
}

// offered is the shared queue as a door sees it.
type offered struct{ queue *gateway.Queue }

// Call has some gateway answer.
func (o offered) Call(ctx context.Context, c *rpcapi.Call) (*rpcapi.Answer, error) {
	return o.queue.Offer(ctx, c)
}

// upgrader hands a door's WebSockets over.
type upgrader struct {
	sockets *socket.Server
	door    *rpc.Door
}

// ServeHTTP serves one WebSocket until it ends.
func (u *upgrader) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := u.door.Client(r)
	u.sockets.Serve(w, r, socket.Client{IP: c.IP, Key: c.Key, Class: c.Class})
}

// socketCalls has a door answer the messages of WebSockets; the doors share everything that matters to them.
type socketCalls struct{ door *rpc.Door }

// Answer answers one message.
func (s *socketCalls) Answer(ctx context.Context, message []byte, c socket.Client) []byte {
	return s.door.Answer(ctx, message, rpc.Client{IP: c.IP, Key: c.Key, Class: c.Class})
}

// Admit says whether a client may subscribe now.
func (s *socketCalls) Admit(c socket.Client, method string) *jsonrpc.Error {
	return s.door.Admit(rpc.Client{IP: c.IP, Key: c.Key, Class: c.Class}, method)
}

// listening asks for subscriptions: the node that is listened to beside its places, or whichever has a place.
type listening struct{ pool *nodes.Pool }

// Call has a node answer.
func (l listening) Call(ctx context.Context, c *rpcapi.Call) (*rpcapi.Answer, error) {
	if c.Node != 0 {
		return l.pool.Beside(ctx, c)
	}
	return l.pool.Call(ctx, c)
}

// standing is the nodes as subscriptions see them.
type standing struct{ pool *nodes.Pool }

// Nodes are all nodes as they stand now.
func (s standing) Nodes() []subscriptions.State {
	all := s.pool.Status()
	out := make([]subscriptions.State, len(all))
	for i, n := range all {
		out[i] = subscriptions.State{Node: n.Node, Healthy: n.State.Usable(), Height: n.Height}
	}
	return out
}

// components watch, subscribe and serve; the doors stop first.
func (g *gatewayRole) components(cfg *Config) []lifecycle.Component {
	if g == nil {
		return nil
	}
	var cs []lifecycle.Component
	if g.mock != nil {
		cs = append(cs, lifecycle.Component{Name: "mock node", Run: g.mock.Run})
	}
	cs = append(cs,
		lifecycle.Component{Name: "gateway nodes", Run: g.pool.Run, Drain: cfg.Gateway.Pool.Drain + drainMargin},
		lifecycle.Component{Name: "gateway node set", Run: g.set.Run},
		lifecycle.Component{Name: "gateway subscriptions", Run: g.feed.Run},
		lifecycle.Component{Name: "gateway limits", Run: g.limits.Run},
	)
	if g.queue != nil {
		cs = append(cs, lifecycle.Component{Name: "gateway queue", Run: g.serveQueue, Drain: cfg.Gateway.Pool.Drain + drainMargin})
	}
	return append(cs, lifecycle.Component{
		Name: "gateway doors", Run: g.serveDoors, Drain: cfg.Gateway.Door.DrainDelay + cfg.Gateway.Door.Drain + drainMargin,
	})
}

// serveDoors has all doors open and drain together: /readyz speaks for all of them, so none is to wait for another. WebSockets
// are told to go then, too: a door waits for its own.
func (g *gatewayRole) serveDoors(ctx context.Context) error {
	doors, ctx := errgroup.WithContext(ctx)
	for _, d := range g.doors {
		doors.Go(func() error { return d.Run(ctx) })
	}
	doors.Go(func() error { return g.sockets.Run(ctx) })
	return doors.Wait()
}

// serveQueue takes calls off the shared queues as far as nodes here have places.
func (g *gatewayRole) serveQueue(ctx context.Context) error {
	return g.queue.Serve(ctx, g.pool.Room, g.pool.Call)
}

var errNoNodes = errors.New("no node is healthy")

// ready is nil, or why no calls should come here.
func (g *gatewayRole) ready() error {
	for _, d := range g.doors {
		if err := d.Ready(); err != nil {
			return err
		}
	}
	for _, s := range g.pool.Status() {
		if s.State.Usable() {
			return nil
		}
	}
	return errNoNodes
}

// attrs describe the gateway in the line about the start.
func (g *gatewayRole) attrs(ctx context.Context) []slog.Attr {
	if g == nil {
		return nil
	}
	var at []string
	for i, d := range g.doors {
		for d.Addr() == nil {
			if !retry.Pause(ctx, 5*time.Millisecond) {
				return nil
			}
		}
		at = append(at, string(g.cfg.doors()[i].Dialect)+"="+d.Addr().String())
	}
	return []slog.Attr{slog.String("gateway", strings.Join(at, ",")), slog.Int("gateway_nodes", len(g.set.List()))}
}

// reload puts in force what can change without a restart.
func (g *gatewayRole) reload(ctx context.Context, next *Gateway) error {
	configured, err := next.configured()
	if err != nil {
		return err
	}
	if g.mock != nil {
		n, err := rpcapi.ParseNode(g.mock.url())
		if err != nil {
			return err
		}
		configured = append(configured, n)
	}
	for i, cfg := range next.doors() {
		if i < len(g.doors) {
			if err := g.doors[i].Reload(cfg); err != nil && !errors.Is(err, rpc.ErrNeedsRestart) {
				return fmt.Errorf("gateway: %w", err)
			}
		}
	}
	limits, err := next.limits()
	if err != nil {
		return err
	}
	err = errors.Join(
		g.limits.Reload(limits), g.cache.Reconfigure(next.Cache.config()), g.sockets.Reload(next.socket()), g.feed.Reload(next.Feed.config()),
	)
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	return g.repool(ctx, next.Pool, configured)
}

// repool puts another configuration of the nodes and of the queues in force. What queues on the bus were made with
// stays (fixed names it).
func (g *gatewayRole) repool(ctx context.Context, next nodes.Config, configured []*rpcapi.Node) error {
	if g.queue != nil {
		next.Queue.Timeout, next.MaxAnswer = g.cfg.Pool.Queue.Timeout, g.cfg.Pool.MaxAnswer
		g.queue.Reorder(servingOrder(&next.Queue))
	}
	if err := g.pool.Reload(next); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	g.set.configure(ctx, configured)
	return nil
}
