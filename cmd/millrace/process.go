package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"millrace/egress"
	replayer "millrace/egress/engine"
	"millrace/egress/nodes"
	subscriptions "millrace/egress/nodes/feed"
	"millrace/ingress"
	door "millrace/ingress/engine"
	"millrace/ingress/rpc"
	"millrace/ingress/rpc/cache"
	"millrace/ingress/rpc/limit"
	"millrace/ingress/rpc/socket"
	"millrace/internal/bus"
	"millrace/internal/bus/enginelog"
	"millrace/internal/bus/gateway"
	"millrace/internal/config"
	"millrace/internal/ledger"
	"millrace/internal/ledger/index"
	"millrace/internal/lifecycle"
	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/internal/signers"
	"millrace/internal/telemetry"
	"millrace/workers"
)

// How long parts may take to end whose own bounds are not configuration: each a few seconds above
// what the part itself allows.
const (
	drainWorkers = 12 * time.Second
	drainBus     = 30 * time.Second
	drainMargin  = 2 * time.Second
	drainTargets = 15 * time.Second
)

// process is the running roles of one process.
type process struct {
	app   *app
	roles role
	cfg   *Config
	log   *telemetry.Log
	reg   *prometheus.Registry

	admin     *telemetry.Admin
	listening *early // admin, from before the bus on
	adminAddr net.Addr

	bus      *bus.Bus
	targets  *targets
	door     *ingress.Server
	pool     *workers.Worker
	cache    *signers.Cache
	delivery *delivery
	index    *index.Index // nil: no tracing in this process
	replays  replays
	engine   *engineRole  // nil: no Engine API in this process
	gateway  *gatewayRole // nil: no gateway in this process
	peers    *peersRole   // nil: no peers

	hup chan os.Signal

	mu      sync.Mutex // one reload at a time
	inForce []config.Setting
}

// serve runs the given roles until ctx ends or one of them fails.
func (a *app) serve(ctx context.Context, r role) error {
	cfg := &a.parsed.settings.Keys
	r = r.withEngine(cfg).withGateway(cfg)
	if err := cfg.fit(r); err != nil {
		return usage(err)
	}
	log, err := telemetry.NewLog(a.stderr, cfg.Log)
	if err != nil {
		return usage(err)
	}
	p := &process{
		app: a, roles: r, cfg: cfg, log: log, reg: telemetry.NewRegistry(build()),
		inForce: a.parsed.effective(), hup: make(chan os.Signal, 1), // more than one at a time mean the same
	}
	for _, name := range a.parsed.resolver.Warnings() {
		log.LogAttrs(ctx, slog.LevelWarn, "variable of a predecessor can't be honoured yet", slog.String("name", name))
	}
	tuneRuntime(cfg.Runtime, a.environ)
	signal.Notify(p.hup, syscall.SIGHUP) // before it could end a process that is starting
	defer signal.Stop(p.hup)
	if err = p.run(ctx); err != nil {
		log.LogAttrs(ctx, slog.LevelError, "stopped after a failure", slog.Any("error", err))
		return fmt.Errorf("%w: %w", errLogged, err)
	}
	log.LogAttrs(ctx, slog.LevelInfo, "stopped")
	return nil
}

// run builds everything and runs it until ctx ends or a part fails.
func (p *process) run(ctx context.Context) error {
	if err := p.openAdmin(ctx); err != nil {
		return err
	}
	if err := p.build(ctx); err != nil {
		_ = p.listening.stop()
		if ctx.Err() != nil {
			return nil //nolint:nilerr // told to stop before it was up
		}
		return err
	}
	p.admin.Show(p.pages())
	return lifecycle.Run(ctx, p.components()...)
}

// build dials the bus and makes every part. Nothing of it runs yet but the bus, which
// is closed again when a later part can't be made.
func (p *process) build(ctx context.Context) (err error) {
	p.cfg.NATS.Role = p.roles.user()
	topology := p.cfg.topology()
	if p.roles == roleBus {
		topology = p.cfg.everyones()
	}
	if err = p.preparePeers(); err != nil {
		return err
	}
	p.bus, err = bus.Dial(ctx, p.cfg.NATS, topology, p.part("bus"), p.reg)
	if err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	defer func() { //nolint:contextcheck // closing has bounds of its own
		if err == nil {
			return
		}
		if p.delivery != nil && p.delivery.stub != nil {
			p.delivery.stub.close()
		}
		p.bus.Close()
	}()
	for _, make := range []func() error{p.buildDelivery, p.buildPool, p.buildTrace, p.buildDoor, p.buildReplays, p.buildPeers} {
		if err = make(); err != nil {
			return err
		}
	}
	if p.roles&roleNode == roleNode && p.cfg.NATS.Embedded() {
		if err = p.delivery.declare(ctx, p.bus); err != nil {
			return err
		}
	}
	if err = p.buildEngine(ctx); err != nil {
		return err
	}
	if err = p.buildGateway(ctx); err != nil {
		return err
	}
	p.targets = newTargets(p)
	return nil
}

// part is the logger of one part.
func (p *process) part(name string) *slog.Logger { return p.log.With(slog.String("part", name)) }

func (p *process) buildPool() error {
	if !p.roles.has(roleWorkers) {
		return nil
	}
	rules, err := order.NewRules(p.cfg.Orders.ChainID)
	if err != nil {
		return usage(fmt.Errorf("orders.chain_id: %w", err))
	}
	p.cache, err = signers.New(p.cfg.Worker.SignerCache, p.cfg.Orders.ChainID, rules, p.bus, p.part("signers"), p.reg)
	if err != nil {
		return usage(fmt.Errorf("worker.signer_cache: %w", err))
	}
	p.pool, err = workers.New(p.cfg.Worker, workers.Ports{
		Source: p.bus, Publisher: p.bus, Recorder: p.bus, Ends: p.bus.Ends(ledger.Accepts), Refusals: p.bus, Verdicts: p.bus, Suspects: p.bus, Clock: p.bus,
	}, p.cache, p.part("worker"), p.reg)
	return err
}

func (p *process) buildDoor() (err error) {
	if !p.roles.has(roleIngress) {
		return nil
	}
	p.door, err = ingress.New(p.cfg.Ingress, ingress.Ports{
		Publisher: p.bus, Verdicts: p.bus, Refusals: p.bus, Backlog: p.bus, Door: p.bus, Clock: p.bus, Health: p.health(), Status: p.status(),
	}, p.part("ingress"), p.reg)
	return err
}

func (p *process) buildDelivery() (err error) {
	if p.roles.has(roleEgress) || p.roles.has(roleIngress) {
		p.delivery, err = newDelivery(p)
	}
	return err
}

// components are the parts in the order of their start; they stop in reverse, the intake first.
func (p *process) components() []lifecycle.Component {
	cs := []lifecycle.Component{
		{Name: "telemetry", Run: p.listening.Run},
		{Name: "reload", Run: p.watch},
		{Name: "bus", Run: p.bus.Run, Drain: drainBus, Base: true},
		{Name: "targets", Run: p.targets.Run, Drain: drainTargets},
	}
	cs = append(cs, p.traceComponents()...)
	if p.delivery != nil {
		cs = append(cs, p.delivery.components(p.cfg)...)
	}
	if p.pool != nil {
		cs = append(cs,
			lifecycle.Component{Name: "signers", Run: p.runCache},
			lifecycle.Component{Name: "workers", Run: p.pool.Run, Drain: drainWorkers})
	}
	if p.door != nil {
		cs = append(cs, lifecycle.Component{
			Name: "ingress", Run: p.door.Run,
			Drain: p.cfg.Ingress.DrainDelay + p.cfg.Ingress.DrainTimeout + drainMargin,
		})
	}
	cs = append(cs, p.replays.components(p.cfg)...)
	cs = append(cs, p.engine.components(p.cfg)...)
	cs = append(cs, p.peers.components()...)
	cs = append(cs, p.gateway.components(p.cfg)...)
	return append(cs, lifecycle.Component{Name: "start", Run: p.announce})
}

// runCache exchanges signers with other worker processes.
func (p *process) runCache(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.cache.Run(ctx) })
	if p.cache.Sharing() {
		g.Go(func() error { return p.bus.SignerBatches(ctx, p.cache.Receive) })
	}
	return g.Wait()
}

// announce logs the one line about the start, once every listener has its address, and the one
// about the end. It runs last and stops first.
func (p *process) announce(ctx context.Context) error {
	b := build()
	attrs := []slog.Attr{
		slog.String("roles", p.roles.String()), slog.String("node", p.cfg.Node.Name),
		slog.String("version", b.Version), slog.String("secp256k1", b.Secp256k1),
	}
	attrs = append(attrs, slog.String("admin", p.adminAddr.String()))
	if p.door != nil {
		for p.door.Addr() == nil || p.cfg.Ingress.BuilderListen != "" && p.door.BuilderAddr() == nil {
			if !retry.Pause(ctx, 5*time.Millisecond) {
				return nil
			}
		}
		attrs = append(attrs, slog.String("ingress", p.door.Addr().String()))
		if a := p.door.BuilderAddr(); a != nil {
			attrs = append(attrs, slog.String("ingress_builder", a.String()))
		}
	}
	attrs = append(attrs, p.replays.attrs(ctx)...)
	attrs = append(attrs, p.engine.attrs(ctx)...)
	attrs = append(attrs, p.gateway.attrs(ctx)...)
	attrs = append(attrs, p.busAttrs()...)
	attrs = append(attrs, p.delivery.attrs()...)
	if path := p.app.parsed.resolver.Path(); path != "" {
		attrs = append(attrs, slog.String("config", path))
	}
	p.log.LogAttrs(ctx, slog.LevelInfo, "started", attrs...)
	<-ctx.Done()
	p.log.LogAttrs(ctx, slog.LevelInfo, "stopping")
	return nil
}

func (p *process) busAttrs() []slog.Attr {
	if !p.cfg.NATS.Embedded() {
		return []slog.Attr{slog.String("nats", config.MaskURLs(p.cfg.NATS.URL))}
	}
	attrs := []slog.Attr{slog.String("data", p.cfg.dataDir())}
	if p.cfg.NATS.Listen != "" {
		attrs = append(attrs, slog.String("nats_listen", p.cfg.NATS.Listen))
	}
	return attrs
}

// tuneRuntime trades memory for processor time: orders are garbage soon after they are stored. The
// soft limit makes the collector work harder before the process grows beyond its budget. A goroutine gives way
// to another when it likes to, and a thread when the kernel does: with one thread more than CPUs a long
// compression or signature check holds up an urgent order for less. Who set
// GOGC, GOMEMLIMIT or GOMAXPROCS knows better.
func tuneRuntime(c Runtime, environ []string) {
	set := func(name string) bool {
		return slices.ContainsFunc(environ, func(e string) bool { return strings.HasPrefix(e, name+"=") })
	}
	if !set("GOGC") {
		debug.SetGCPercent(c.GOGC)
	}
	if !set("GOMAXPROCS") && c.SpareProcs > 0 {
		runtime.GOMAXPROCS(min(runtime.NumCPU(), runtime.GOMAXPROCS(0)) + c.SpareProcs)
	}
	if !set("GOMEMLIMIT") && c.MemoryLimit > 0 {
		debug.SetMemoryLimit(c.MemoryLimit)
	}
}

// The ports of the stages are joined to the bus here, so this is where a difference shows.
var (
	_ ingress.Publisher   = (*bus.Bus)(nil)
	_ ingress.Verdicts    = (*bus.Bus)(nil)
	_ ingress.Refusals    = (*bus.Bus)(nil)
	_ ingress.Backlog     = (*bus.Bus)(nil)
	_ ingress.Door        = (*bus.Bus)(nil)
	_ ingress.Clock       = (*bus.Bus)(nil)
	_ ingress.Health      = (*bus.Bus)(nil)
	_ workers.Source      = (*bus.Bus)(nil)
	_ workers.Publisher   = (*bus.Bus)(nil)
	_ workers.Recorder    = (*bus.Bus)(nil)
	_ workers.Ends        = (*bus.Ends)(nil)
	_ workers.Refusals    = (*bus.Bus)(nil)
	_ workers.Verdicts    = (*bus.Bus)(nil)
	_ workers.Suspects    = (*bus.Bus)(nil)
	_ workers.Clock       = (*bus.Bus)(nil)
	_ workers.Rules       = (*signers.Cache)(nil)
	_ signers.Rules       = (*order.Rules)(nil)
	_ signers.Broadcaster = (*bus.Bus)(nil)
	_ egress.Clock        = (*bus.Bus)(nil)
	_ egress.Lease        = (*bus.Bus)(nil)
	_ egress.Feed         = (*bus.Feed)(nil)
	_ egress.Log          = (*bus.DoneLog)(nil)

	_ door.Recorder    = (*enginelog.Recorder)(nil)
	_ door.Clock       = (*bus.Bus)(nil)
	_ replayer.Log     = (*enginelog.Log)(nil)
	_ replayer.Cursors = (*enginelog.State)(nil)
	_ replayer.Modes   = (*enginelog.State)(nil)
	_ enginelog.Bus    = (*bus.Bus)(nil)
	_ enginelog.Holder = (*bus.Bus)(nil)

	_ gateway.Bus           = (*bus.Bus)(nil)
	_ rpc.Caller            = (*nodes.Pool)(nil)
	_ rpc.Limits            = (*limit.Limiter)(nil)
	_ rpc.Cache             = (*cache.Cache)(nil)
	_ rpc.NodeSet           = (*nodeSet)(nil)
	_ cache.Heads           = (*nodes.Pool)(nil)
	_ subscriptions.Learner = (*nodes.Pool)(nil)
	_ socket.Subscriber     = (*subscriptions.Feed)(nil)
	_ limit.Gossip          = (*gateway.Gossip)(nil)
)

var errDoor = errors.New("the door is closed")

// checks are the conditions of readiness of these roles.
func (p *process) checks() []telemetry.Check {
	checks := []telemetry.Check{{Name: "bus", Ready: p.bus.Healthy}}
	if p.roles.has(roleIngress) {
		checks = append(checks, telemetry.Check{Name: "door", Ready: func() error {
			if reason, closed := p.bus.DoorClosed(); closed {
				return fmt.Errorf("%w: %s", errDoor, reason)
			}
			return nil
		}})
	}
	if p.engine != nil {
		checks = append(checks, telemetry.Check{Name: "engine", Ready: p.engine.ready})
	}
	if p.gateway != nil {
		checks = append(checks, telemetry.Check{Name: "gateway", Ready: p.gateway.ready})
	}
	if p.delivery != nil {
		checks = append(checks, telemetry.Check{Name: "builder", Ready: p.delivery.ready})
	}
	return checks
}

// health is what the order door's own /readyz asks: the bus, and the builder as in v2.
func (p *process) health() ingress.Health { return healthFunc(p.healthy) }

func (p *process) healthy() error {
	if err := p.bus.Healthy(); err != nil {
		return err
	}
	return p.delivery.ready()
}

// healthFunc is a function as ingress.Health.
type healthFunc func() error

// Healthy calls f.
func (f healthFunc) Healthy() error { return f() }
