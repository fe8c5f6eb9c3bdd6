package ingress

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/internal/certificate"
	"millrace/internal/listener"
)

// The listeners' names in millrace_http_connections_total.
const (
	listenerOrders  = "orders"
	listenerBuilder = "builder"
)

// Limits of HTTP that need no configuration.
const (
	writeSlack       = 10 * time.Second
	http2Streams     = 128
	http2Buffer      = 256 << 10
	builderBodyLimit = 1 << 20
	builderConns     = 16
)

// Server is the order door. Create it with New, then call Run once.
type Server struct {
	id    string        // names this process in verdicts' subjects
	idle  time.Duration // listener.IdleTimeout
	ports Ports
	log   *slog.Logger

	policy      atomic.Pointer[policy]
	memory      atomic.Pointer[memory] // set while Run runs
	certificate *certificate.Pair
	metrics     *metrics

	inflight *inflight
	bodies   bodyReader
	gate     *gate
	shed     shedder
	flights  *flights
	waiters  *waiters
	requests sync.Pool     // of *request
	lookups  chan struct{} // places of millrace_orderStatus
	jsonType []string      // the Content-Type of every answer

	running  atomic.Bool
	draining atomic.Bool
	reloads  sync.Mutex // one Reload at a time

	orders, builder *listener.Listener
}

// New returns a door that is not listening yet. It fails when cfg is invalid (ErrConfig) or a
// required port is missing (ErrPort). log and reg must not be nil; reg may hold one Server.
func New(cfg Config, ports Ports, log *slog.Logger, reg prometheus.Registerer) (*Server, error) {
	p, err := newPolicy(cfg)
	if err != nil {
		return nil, err
	}
	if ports.Publisher == nil || ports.Verdicts == nil || ports.Refusals == nil ||
		ports.Backlog == nil || ports.Door == nil || ports.Clock == nil {
		return nil, ErrPort
	}
	slots := cfg.CPUSlots
	if slots == 0 {
		slots = min(runtime.NumCPU(), runtime.GOMAXPROCS(0))
	}
	s := &Server{
		id: newID(), idle: listener.IdleTimeout, ports: ports, log: log,
		inflight: newInflight(cfg.InflightBytes),
		gate:     newGate(slots, cfg.GateQueue, cfg.BulkSlots),
		flights:  newFlights(),
		waiters:  newWaiters(),
		lookups:  make(chan struct{}, statusPlaces),
		jsonType: []string{contentTypeJSON},
		orders:   listener.New("orders"), builder: listener.New("the builder"),
	}
	s.policy.Store(p)
	s.bodies.inflight = s.inflight
	s.shed.backlog, s.shed.log = ports.Backlog, log
	s.requests.New = func() any { return new(request) }
	s.metrics = newMetrics(reg, s)
	s.certificate = listener.NewCertificate("ingress.tls.cert", "ingress.tls.key", log, s.metrics.reloads)
	return s, nil
}

// newID is random, so that a restarted process does not take its predecessor's verdicts for its
// own.
func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return hex.EncodeToString(b[:])
}

// ID names this door in order.Order.Ingress and in the subject of its verdicts.
func (s *Server) ID() string { return s.id }

// Addr is the order listener's address once Run listens, else nil.
func (s *Server) Addr() net.Addr { return s.orders.Addr() }

// BuilderAddr is the builder listener's address once Run listens, else nil.
func (s *Server) BuilderAddr() net.Addr { return s.builder.Addr() }

// Reload puts cfg in force for the requests that follow. An invalid cfg (ErrConfig) or unreadable
// certificate changes nothing. Keys that need a restart keep their value; when any of them
// differs the error wraps ErrNeedsRestart and names them, and all others are in force.
func (s *Server) Reload(cfg Config) error {
	s.reloads.Lock()
	defer s.reloads.Unlock()
	if err := cfg.Validate(); err != nil {
		return err
	}
	next, changed := s.policy.Load().fixed(cfg)
	p, err := newPolicy(next)
	if err != nil {
		return err
	}
	if p.TLS != (TLS{}) {
		if err := s.certificate.Load(p.TLS.Cert, p.TLS.Key); err != nil {
			return err
		}
	}
	s.policy.Store(p)
	if len(changed) > 0 {
		return fmt.Errorf("%w: %s", ErrNeedsRestart, strings.Join(changed, ", "))
	}
	return nil
}

// Run listens and serves until ctx ends, then drains and returns nil. It returns early with an
// error when a listener or the verdict port fails.
func (s *Server) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	cfg := &s.policy.Load().Config
	if cfg.TLS != (TLS{}) {
		if err := s.certificate.Load(cfg.TLS.Cert, cfg.TLS.Key); err != nil {
			return err
		}
	}
	m, err := newMemory(cfg)
	if err != nil {
		return fmt.Errorf("allocate caches: %w", err)
	}
	defer m.close()
	s.memory.Store(m)
	listeners, err := s.listen(ctx, cfg)
	if err != nil {
		return err
	}
	parts := s.parts(cfg)
	for _, l := range listeners {
		parts = append(parts, l.Serve)
	}
	return listener.Run(ctx, func(failed context.Context) error { return s.drain(failed, listeners) }, parts...)
}

// listen opens the listeners, and returns those that serve.
func (s *Server) listen(ctx context.Context, cfg *Config) ([]*listener.Listener, error) {
	if err := s.orders.Open(ctx, cfg.Listen, cfg.MaxConnections, s.orderServer(cfg)); err != nil {
		return nil, err
	}
	if cfg.BuilderListen == "" {
		return []*listener.Listener{s.orders}, nil
	}
	if err := s.builder.Open(ctx, cfg.BuilderListen, builderConns, s.builderServer(cfg)); err != nil {
		return nil, errors.Join(err, s.orders.Close())
	}
	return []*listener.Listener{s.orders, s.builder}, nil
}

// orderServer has a deadline for everything that a client can delay.
func (s *Server) orderServer(cfg *Config) *http.Server {
	srv := listener.NewServer(s.marked(s.orderRoutes()), s.log)
	srv.IdleTimeout, srv.ConnState = s.idle, s.metrics.connState[listenerOrders]
	slowest := time.Duration(float64(cfg.MaxBody) / float64(cfg.MinBodyRate) * float64(time.Second))
	srv.ReadHeaderTimeout = cfg.BodyTimeout
	srv.ReadTimeout = cfg.BodyTimeout // body.go extends it for large bodies
	srv.WriteTimeout = cfg.BodyTimeout + slowest + cfg.GateWait + cfg.RefusalDelay + cfg.PublishTimeout*time.Duration(cfg.MaxBatch) + cfg.VerdictWait + writeSlack
	if cfg.TLS == (TLS{}) {
		srv.Protocols.SetUnencryptedHTTP2(true)
	} else {
		srv.Protocols.SetHTTP2(true)
		srv.TLSConfig = s.certificate.Config(0)
	}
	srv.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams:          http2Streams,
		MaxReceiveBufferPerConnection: http2Buffer,
		MaxReceiveBufferPerStream:     http2Buffer,
	}
	return srv
}

func (s *Server) builderServer(cfg *Config) *http.Server {
	srv := listener.NewServer(s.builderRoutes(), s.log)
	srv.IdleTimeout, srv.ConnState = s.idle, s.metrics.connState[listenerBuilder]
	srv.ReadTimeout, srv.WriteTimeout = cfg.BodyTimeout, cfg.BodyTimeout+writeSlack
	return srv
}

// parts are what runs beside the listeners until the last request in flight has its answer.
func (s *Server) parts(cfg *Config) []func(context.Context) error {
	parts := []func(context.Context) error{
		func(ctx context.Context) error {
			if err := s.ports.Verdicts.Verdicts(ctx, s.id, s.verdict); err != nil && ctx.Err() == nil {
				return fmt.Errorf("hear verdicts: %w", err)
			}
			return nil
		},
		newPressure(s.gate, cfg.BulkSlots).run,
	}
	if cfg.TLS != (TLS{}) {
		parts = append(parts, listener.Follow(s.certificate))
	}
	return parts
}

// drain turns unready, waits for load balancers to notice, stops accepting, and waits for the
// requests in flight.
func (s *Server) drain(failed context.Context, listeners []*listener.Listener) error {
	cfg := &s.policy.Load().Config
	s.draining.Store(true)
	s.log.LogAttrs(failed, slog.LevelInfo, "order door is draining")
	listener.Linger(failed, cfg.DrainDelay)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(failed), cfg.DrainTimeout)
	defer cancel()
	var errs []error
	for _, l := range listeners {
		errs = append(errs, l.Shutdown(ctx))
	}
	return errors.Join(errs...)
}

// ready is nil, or the reason why no order can be accepted now.
func (s *Server) ready() error {
	if s.draining.Load() {
		return errDraining
	}
	if reason, closed := s.ports.Door.DoorClosed(); closed {
		return deny(deniedClosed, "Disk full: "+reason)
	}
	if s.ports.Health != nil {
		return s.ports.Health.Healthy()
	}
	return nil
}
