package main

import (
	"context"
	"log/slog"

	"millrace/egress"
	"millrace/internal/lifecycle"
)

// delivery is the egress side of a process.
type delivery struct {
	dispatcher *egress.Dispatcher
}

func newDelivery(p *process) (*delivery, error) { return &delivery{}, nil }

func (d *delivery) components(cfg *Config) []lifecycle.Component { return nil }

func (d *delivery) reload(cfg *Config) error { return nil }

func (d *delivery) ready() error { return nil }

func (d *delivery) attrs() []slog.Attr { return nil }

var _ = context.Background
