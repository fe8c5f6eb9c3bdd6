package ingress

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"
)

// Server is the order door.
type Server struct {
	cfg   Config
	ports Ports
	log   *slog.Logger
}

// New returns a door that is not listening yet.
func New(cfg Config, ports Ports, log *slog.Logger, reg prometheus.Registerer) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, ports: ports, log: log}, nil
}

// Run listens and serves until ctx ends, then drains.
func (s *Server) Run(ctx context.Context) error { return errors.New("todo") }

// Addr is the order listener's address once Run listens, else nil.
func (s *Server) Addr() net.Addr { return nil }

// BuilderAddr is the builder listener's address once Run listens, else nil.
func (s *Server) BuilderAddr() net.Addr { return nil }

// Reload puts cfg in force as far as that is possible without a restart.
func (s *Server) Reload(cfg Config) error { return nil }
