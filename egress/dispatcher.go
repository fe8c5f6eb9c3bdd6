package egress

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

const batchMin = 64

// Dispatcher runs one loop per destination.
type Dispatcher struct{}

// New returns a dispatcher to the given destinations.
func New(cfg Config, ports Ports, to []Destination, log *slog.Logger, reg prometheus.Registerer) (*Dispatcher, error) {
	return nil, cfg.Validate()
}

// Run delivers until ctx ends; it returns when every loop has ended.
func (d *Dispatcher) Run(ctx context.Context) error { return nil }

// Reload replaces the destinations.
func (d *Dispatcher) Reload(to []Destination) error { return nil }

// Down names the targets that can't be reached at present, for the readiness report.
func (d *Dispatcher) Down() []string { return nil }
