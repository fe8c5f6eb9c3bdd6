package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"millrace/internal/bus/embedded"
	"millrace/internal/bus/upkeep"
	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/subjects"
)

// Bus is one process's access to NATS. Dial creates it, Run or Close ends it; it is safe for
// concurrent use.
type Bus struct {
	cfg    Config
	topo   subjects.Options
	id     string // of this process life
	log    *slog.Logger
	m      *metrics
	server *embedded.Server // nil when the bus is elsewhere

	links    *links
	buckets  buckets
	clock    *upkeep.Clock
	backlog  *upkeep.Backlog
	guard    *upkeep.Guard // beside an embedded server only
	purge    *upkeep.Purge
	refusals *refusals
	suspects suspects
	ears     ears
	tap      *tap // nil: off

	door    atomic.Pointer[string] // why it is closed; nil: open
	missing atomic.Pointer[string] // what the topology lacks; nil: nothing

	life       context.Context //nolint:containedctx // of what AwaitRefusal and MarkSuspect start
	die        context.CancelFunc
	background sync.WaitGroup
	touching   sync.Once
	closing    sync.Once
}

// Dial starts the embedded server, or connects to the one at cfg.URL, waiting for it with a log
// line until ctx ends. Beside an embedded server it also makes streams, consumers and buckets what
// this version declares, without the order pipeline's where no order can come; elsewhere that is the job of `millrace streams apply`, and until it is
// done Healthy says so. Everything it needs later is opened at its first use.
func Dial(ctx context.Context, cfg Config, topo subjects.Options, log *slog.Logger, reg prometheus.Registerer) (*Bus, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b := newBus(ctx, cfg, topo, log, reg)
	err := b.locate(ctx)
	if err == nil {
		err = b.start(ctx, reg)
	}
	if err != nil {
		b.Close() //nolint:contextcheck // undoing takes its time whatever became of ctx
		return nil, err
	}
	return b, nil
}

func newBus(ctx context.Context, cfg Config, topo subjects.Options, log *slog.Logger, reg prometheus.Registerer) *Bus {
	topo.Replicas = max(cfg.Replicas, 1)
	if cfg.Embedded() && !cfg.hasOrders() {
		topo = topo.WithoutOrders()
	}
	b := &Bus{
		cfg: cfg, topo: topo, id: nuid.Next(), log: log, m: newMetrics(reg),
		buckets:  buckets{open: make(map[string]jetstream.KeyValue)},
		suspects: suspects{tick: suspectTick, mine: make(map[order.AcceptID]mark), seen: make(map[order.AcceptID]sighting)},
		refusals: newRefusals(topo.MaxAge),
	}
	if cfg.tapped() {
		b.tap = newTap(topo.MaxAge, b.m)
	}
	b.life, b.die = context.WithCancel(context.WithoutCancel(ctx))
	b.links = &links{inbox: b.cfg.inbox, log: b.log, m: b.m, life: b.life, open: make(map[lane]*link)}
	return b
}

// start connects and makes what depends on the connection.
func (b *Bus) start(ctx context.Context, reg prometheus.Registerer) error {
	control, err := b.await(ctx)
	if err != nil {
		return err
	}
	b.backlog = b.cfg.sees(upkeep.NewBacklog(control.js, b.log, reg))
	purge := upkeep.PurgeConfig{Window: b.topo.MaxAge, Record: b.topo.RecordMaxBytes > 0}
	if b.server == nil {
		b.clock = upkeep.NewClock(control.js, subjects.StreamIn(order.PriorityHigh), b.log, reg)
		b.checkTopology(ctx)
		if err := b.clock.Measure(ctx); err != nil {
			b.log.LogAttrs(ctx, slog.LevelWarn, "bus clock can't be read yet", slog.Any("error", err))
		}
	} else {
		b.clock = upkeep.LocalClock()
		if err := b.furnish(ctx, control); err != nil {
			return err
		}
		var record *jetstream.StreamConfig
		if b.topo.RecordMaxBytes > 0 {
			r := subjects.Record(b.topo)
			record = &r
		}
		if b.tap != nil {
			b.tap.alone = b.cfg.Listen == ""
		}
		b.guard = upkeep.NewGuard(control.js, b.server, record, b.log, reg)
		purge.RecordPaused = b.guard.RecordPaused
	}
	b.purge = upkeep.NewPurge(control.js, purge, b.log, reg)
	return nil
}

// locate decides how connections are made, starting the embedded server if that is where they go.
func (b *Bus) locate(ctx context.Context) error {
	if !b.cfg.Embedded() {
		opts, err := b.cfg.clientOptions()
		b.links.url, b.links.base = b.cfg.URL, opts
		return err
	}
	s, err := embedded.Start(ctx, embedded.Config{
		StoreDir: b.cfg.StoreDir, Listen: b.cfg.Listen, Sync: b.cfg.Sync, MaxStore: b.cfg.MaxStore,
		TLSCert: b.cfg.TLS.Cert, TLSKey: b.cfg.TLS.Key,
		MaxPayload: int32(max(12<<20, min(b.topo.MaxBody+2*subjects.HeaderRoom, 60<<20))),
		Peering:    b.cfg.Peering,
	}, b.log)
	if err != nil {
		return fmt.Errorf("start embedded server: %w", err)
	}
	b.server = s
	b.links.url, b.links.base = s.ClientURL(), []nats.Option{s.ConnectOption()}
	return b.fitVolume(ctx)
}

// await opens the control connection, however long the server takes to come up.
func (b *Bus) await(ctx context.Context) (*link, error) {
	for n := 0; ; n++ {
		c, err := b.links.connect(lane{use: useControl})
		if err == nil {
			b.links.mu.Lock()
			b.links.open[lane{use: useControl}] = c
			b.links.mu.Unlock()
			return c, nil
		}
		if !comesUp(err) {
			return nil, err
		}
		if n%10 == 0 {
			b.log.LogAttrs(ctx, slog.LevelWarn, "waiting for the bus", slog.Any("error", err))
		}
		if !retry.Pause(ctx, retry.Backoff(n, 100*time.Millisecond, 2*time.Second)) {
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// comesUp reports whether waiting may help: the server is not there, rather than refuses us.
func comesUp(err error) bool {
	var network *net.OpError // not net.Error: a missing file is one, too
	return errors.Is(err, nats.ErrNoServers) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, io.EOF) || errors.As(err, &network)
}

// Run keeps house until ctx ends: clock, backlog, the door's state, purging, and the disk guard
// beside an embedded server. Then it closes the bus, so it must be stopped after everything that
// uses it. An error before means that the process has to start again.
func (b *Bus) Run(ctx context.Context) error {
	defer b.Close() //nolint:contextcheck // ctx has ended by then
	g, gctx := errgroup.WithContext(ctx)
	part := func(f func(context.Context) error) {
		g.Go(func() error {
			if err := f(gctx); err != nil && gctx.Err() == nil {
				return err
			}
			return nil
		})
	}
	part(b.clock.Run)
	part(b.watchDoor)
	if b.cfg.hasOrders() {
		part(b.backlog.Run)
		part(b.keepHouse)
	}
	if b.guard != nil {
		part(b.guardStore)
	} else {
		part(b.watchTopology)
	}
	return g.Wait()
}

// Close ends the bus without Run, for commands that only ask something. Further calls do nothing.
func (b *Bus) Close() {
	b.closing.Do(func() {
		b.die()
		b.background.Wait()
		b.links.close()
		if b.server != nil {
			b.server.Shutdown()
		}
	})
}

var errNotConnected = errors.New("bus is not connected")

// Healthy returns nil, or why orders can't be stored now: the server, a connection, the topology,
// the clock.
func (b *Bus) Healthy() error {
	if b.server != nil {
		if err := b.server.Health(); err != nil {
			return fmt.Errorf("bus: %w", err)
		}
	}
	for l, c := range b.links.all() {
		// What became of orders can be asked again later: no reason to send them elsewhere.
		if l.use != useStatus && !c.nc.IsConnected() {
			return fmt.Errorf("%w: %s", errNotConnected, l)
		}
	}
	if lack := b.missing.Load(); lack != nil {
		return fmt.Errorf("bus topology: %s", *lack)
	}
	if b.server == nil {
		return b.clock.Ready()
	}
	return nil
}

// Now is the bus clock (CORRECTNESS 18).
func (b *Bus) Now() time.Time { return b.clock.Now() }

// Monitor returns the embedded server's monitoring endpoints; nil when the bus is elsewhere.
func (b *Bus) Monitor() http.Handler {
	if b.server == nil {
		return nil
	}
	return b.server.Monitor()
}

// Embedded returns the server of this process; nil when the bus is elsewhere.
func (b *Bus) Embedded() *embedded.Server { return b.server }

// Oldest is the age of class p's oldest order on IN that is not done, as sampled while Run runs.
func (b *Bus) Oldest(p order.Priority) time.Duration { return b.backlog.Oldest(p) }

// DoorClosed reports whether the disk guard, in whichever process, has closed the door, and why.
func (b *Bus) DoorClosed() (reason string, closed bool) {
	if r := b.door.Load(); r != nil {
		return *r, true
	}
	return "", false
}
