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
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"millrace/internal/certificate"
)

// The listeners' names in millrace_http_connections_total.
const (
	listenerOrders  = "orders"
	listenerBuilder = "builder"
)

// Limits of HTTP that need no configuration.
const (
	idleTimeout      = 30 * time.Second // clients use 28 s, so that they close first
	maxHeader        = 16 << 10
	writeSlack       = 10 * time.Second
	http2Streams     = 128
	http2Buffer      = 256 << 10
	certificatePoll  = 5 * time.Second // the metrics tell of broken files before a client does
	builderBodyLimit = 1 << 20
	builderConns     = 16
)

// Server is the order door. Create it with New, then call Run once.
type Server struct {
	id    string        // names this process in verdicts' subjects
	idle  time.Duration // idleTimeout
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

	orderAddr, builderAddr atomic.Pointer[net.Addr]
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
		id: newID(), idle: idleTimeout, ports: ports, log: log,
		inflight: newInflight(cfg.InflightBytes),
		gate:     newGate(slots, cfg.GateQueue, cfg.BulkSlots),
		flights:  newFlights(),
		waiters:  newWaiters(),
		lookups:  make(chan struct{}, statusPlaces),
		jsonType: []string{contentTypeJSON},
	}
	s.policy.Store(p)
	s.bodies.inflight = s.inflight
	s.shed.backlog, s.shed.log = ports.Backlog, log
	s.requests.New = func() any { return new(request) }
	s.certificate = certificate.New("ingress.tls.cert", "ingress.tls.key", s.certificateChanged)
	s.metrics = newMetrics(reg, s)
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
func (s *Server) Addr() net.Addr { return addr(&s.orderAddr) }

// BuilderAddr is the builder listener's address once Run listens, else nil.
func (s *Server) BuilderAddr() net.Addr { return addr(&s.builderAddr) }

func addr(p *atomic.Pointer[net.Addr]) net.Addr {
	if a := p.Load(); a != nil {
		return *a
	}
	return nil
}

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
	fronts, err := s.fronts(ctx, cfg)
	if err != nil {
		return err
	}
	return s.serveAll(ctx, fronts)
}

// front is one HTTP server with its listener.
type front struct {
	http     *http.Server
	listener net.Listener
}

func (s *Server) fronts(ctx context.Context, cfg *Config) ([]front, error) {
	orders, err := s.listen(ctx, cfg.Listen, cfg.MaxConnections, &s.orderAddr)
	if err != nil {
		return nil, err
	}
	fs := []front{{s.orderServer(cfg), orders}}
	if cfg.BuilderListen != "" {
		builder, err := s.listen(ctx, cfg.BuilderListen, builderConns, &s.builderAddr)
		if err != nil {
			return nil, errors.Join(err, orders.Close())
		}
		fs = append(fs, front{s.builderServer(cfg), builder})
	}
	return fs, nil
}

func (s *Server) listen(ctx context.Context, address string, conns int, known *atomic.Pointer[net.Addr]) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for orders: %w", err)
	}
	a := l.Addr()
	known.Store(&a)
	return netutil.LimitListener(l, conns), nil
}

// orderServer has a deadline for everything that a client can delay.
func (s *Server) orderServer(cfg *Config) *http.Server {
	srv := s.httpServer(listenerOrders, s.marked(s.orderRoutes()))
	slowest := time.Duration(float64(cfg.MaxBody) / float64(cfg.MinBodyRate) * float64(time.Second))
	srv.ReadHeaderTimeout = cfg.BodyTimeout
	srv.ReadTimeout = cfg.BodyTimeout // body.go extends it for large bodies
	srv.WriteTimeout = cfg.BodyTimeout + slowest + cfg.GateWait + cfg.RefusalDelay + cfg.PublishTimeout*time.Duration(cfg.MaxBatch) + cfg.VerdictWait + writeSlack
	srv.Protocols = new(http.Protocols)
	srv.Protocols.SetHTTP1(true)
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
	srv := s.httpServer(listenerBuilder, s.builderRoutes())
	srv.ReadTimeout, srv.WriteTimeout = cfg.BodyTimeout, cfg.BodyTimeout+writeSlack
	return srv
}

func (s *Server) httpServer(listener string, h http.Handler) *http.Server {
	return &http.Server{ //nolint:gosec // the callers set ReadTimeout, which includes the headers
		Handler:        h,
		IdleTimeout:    s.idle,
		MaxHeaderBytes: maxHeader,
		ConnState:      s.metrics.connState(listener),
		// What it says is each client's fault: failed handshakes, broken framing.
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// serveAll serves until ctx ends or something fails, drains, and returns when all goroutines have
// ended.
func (s *Server) serveAll(ctx context.Context, fronts []front) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, failed := errgroup.WithContext(serving)
	for _, f := range fronts {
		g.Go(func() error { return f.serve() })
	}
	// Verdicts are heard until the last request in flight has its answer.
	g.Go(func() error {
		if err := s.ports.Verdicts.Verdicts(serving, s.id, s.verdict); err != nil && serving.Err() == nil {
			return fmt.Errorf("hear verdicts: %w", err)
		}
		return nil
	})
	g.Go(func() error { return newPressure(s.gate, s.policy.Load().BulkSlots).run(serving) })
	if s.policy.Load().TLS != (TLS{}) {
		g.Go(func() error { s.certificate.Watch(serving, certificatePoll); return nil })
	}
	g.Go(func() error {
		defer stop()
		select {
		case <-ctx.Done():
		case <-failed.Done():
		}
		return s.drain(failed, fronts)
	})
	return g.Wait()
}

func (f front) serve() error {
	var err error
	if f.http.TLSConfig != nil {
		err = f.http.ServeTLS(f.listener, "", "")
	} else {
		err = f.http.Serve(f.listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve orders: %w", err)
}

// drain turns unready, waits for load balancers to notice, stops accepting, and waits for the
// requests in flight.
func (s *Server) drain(failed context.Context, fronts []front) error {
	cfg := &s.policy.Load().Config
	s.draining.Store(true)
	s.log.LogAttrs(failed, slog.LevelInfo, "order door is draining")
	delay := time.NewTimer(cfg.DrainDelay)
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-failed.Done(): // nobody would be served
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(failed), cfg.DrainTimeout)
	defer cancel()
	var errs []error
	for _, f := range fronts {
		if err := f.http.Shutdown(ctx); err != nil {
			errs = append(errs, fmt.Errorf("drain orders: %w", err), f.http.Close())
		}
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
