package main

import (
	"context"
	"errors"
	"fmt"

	"millrace/internal/bus"
	"millrace/internal/telemetry"
)

// streamsCmd compares and applies the topology.
type streamsCmd struct {
	Plan  planCmd  `cmd:"" help:"Show what differs between this version's streams, consumers and buckets and the server's. Needs nats.url."`
	Apply applyCmd `cmd:"" help:"Create what is missing and update what may be. Needs nats.url and admin credentials."`
}

// planCmd shows the differences.
type planCmd struct {
	settings `embed:""`
}

// Run prints the plan.
func (c *planCmd) Run(ctx context.Context, a *app) error {
	return a.topology(ctx, &c.Keys, (*bus.Bus).Plan)
}

// applyCmd removes the differences.
type applyCmd struct {
	settings `embed:""`
}

// Run applies and prints what was done.
func (c *applyCmd) Run(ctx context.Context, a *app) error {
	return a.topology(ctx, &c.Keys, (*bus.Bus).Apply)
}

func (a *app) topology(ctx context.Context, cfg *Config, f func(*bus.Bus, context.Context) ([]bus.Change, error)) error {
	cfg.complete()
	cfg.Gateway.elsewhere = true
	if cfg.NATS.URL == "" {
		return usage(errors.New("nats.url: needed; an embedded server applies its streams at every start"))
	}
	if err := cfg.validate(0); err != nil {
		return usage(err)
	}
	log, err := telemetry.NewLog(a.stderr, cfg.Log)
	if err != nil {
		return usage(err)
	}
	b, err := bus.Dial(ctx, cfg.NATS, cfg.everyones(), log.Logger, telemetry.NewRegistry(build()))
	if err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	defer b.Close() //nolint:contextcheck // closing has bounds of its own
	changes, err := f(b, ctx)
	if err != nil {
		return err
	}
	if len(changes) == 0 {
		_, err := fmt.Fprintln(a.stdout, "nothing to change")
		return err
	}
	t := newTable(a.stdout, "KIND", "NAME", "CHANGE")
	for _, c := range changes {
		t.row(c.Kind, c.Name, c.What)
	}
	return t.flush()
}
