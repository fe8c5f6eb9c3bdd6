package socket

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
)

// Server has the WebSockets of all clients.
type Server struct {
	config  atomic.Pointer[Config] // never changed, only replaced
	ports   Ports
	log     *slog.Logger
	metrics *metrics
	// stopping is closed when connections are to end, cut when they must have ended.
	stopping, cut chan struct{}

	mu    sync.Mutex
	open  int
	perIP map[netip.Addr]int
	none  chan struct{} // closed when stopping and the last one has ended
}

// New makes a Server; its connections end when Run does.
func New(cfg Config, ports Ports, log *slog.Logger, reg prometheus.Registerer) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if ports.Calls == nil || ports.Subscriber == nil {
		return nil, errors.New("socket: needs calls and a subscriber")
	}
	s := &Server{
		ports: ports, log: log, metrics: newMetrics(reg, &cfg),
		stopping: make(chan struct{}), cut: make(chan struct{}),
		perIP: make(map[netip.Addr]int), none: make(chan struct{}),
	}
	s.config.Store(&cfg)
	return s, nil
}

// cfg is the configuration in force.
func (s *Server) cfg() *Config { return s.config.Load() }

// Reload puts another configuration in force, or changes nothing if cfg has a fault. Connections that are open stay,
// with the bounds that they were made with, except on how many subscriptions they may add. Config.Drain stays as it was.
func (s *Server) Reload(cfg Config) error {
	cfg.Drain = s.cfg().Drain
	if err := cfg.Validate(); err != nil {
		return err
	}
	s.config.Store(&cfg)
	return nil
}

// Run waits for ctx to end and then for all connections.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	s.mu.Lock()
	close(s.stopping)
	if s.open == 0 {
		close(s.none)
	}
	s.mu.Unlock()
	late := time.NewTimer(s.cfg().Drain)
	defer late.Stop()
	select {
	case <-s.none:
	case <-late.C:
		close(s.cut)
		<-s.none
	}
	return nil
}

// Serve upgrades a request of a client to a WebSocket and serves it until it ends.
func (s *Server) Serve(w http.ResponseWriter, r *http.Request, c Client) {
	ip := network(c.IP)
	if reason, status := s.enter(ip); reason != "" {
		s.metrics.refused[reason].Inc()
		http.Error(w, http.StatusText(status), status)
		return
	}
	defer s.leave(ip)
	cfg := s.cfg()
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		OriginPatterns: cfg.Origins, InsecureSkipVerify: slices.Contains(cfg.Origins, "*"),
	})
	if err != nil {
		s.metrics.refused[refusedHandshake].Inc()
		return // answered
	}
	s.metrics.open.Inc()
	defer s.metrics.open.Dec()
	conn.SetReadLimit(cfg.MaxMessage)
	reason := newConn(s, cfg, conn, c).serve(r.Context())
	s.metrics.ended[reason].Inc()
	s.log.LogAttrs(r.Context(), slog.LevelDebug, "websocket ended", slog.String("reason", reason))
}

// enter takes a place for a connection, or says why there is none.
func (s *Server) enter(ip netip.Addr) (reason string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.stopping:
		return refusedStopping, http.StatusServiceUnavailable
	default:
	}
	cfg := s.cfg()
	switch {
	case s.open >= cfg.MaxConnections:
		return refusedTotal, http.StatusServiceUnavailable
	case s.perIP[ip] >= cfg.MaxPerIP:
		return refusedPerIP, http.StatusTooManyRequests
	}
	s.open++
	s.perIP[ip]++
	return "", 0
}

func (s *Server) leave(ip netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.perIP[ip]--; s.perIP[ip] == 0 {
		delete(s.perIP, ip)
	}
	select {
	case <-s.stopping:
		if s.open == 0 {
			close(s.none)
		}
	default:
	}
}

// network is whose connections are counted together: an IPv4 address, or the /64 that one IPv6 client has.
func network(ip netip.Addr) netip.Addr {
	if ip = ip.Unmap(); !ip.Is6() {
		return ip
	}
	p, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return ip
	}
	return p.Addr()
}
