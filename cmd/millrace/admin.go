package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"millrace/internal/config"
	"millrace/internal/telemetry"
)

// early is a part that runs before lifecycle takes over, as a component then.
type early struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // once done
}

// startEarly runs f until stop, or until the context of Run ends. ctx ending does not end it: the
// part stops in its place among the others.
func startEarly(ctx context.Context, f func(context.Context) error) *early {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e := &early{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(e.done)
		e.err = f(ctx)
	}()
	return e
}

// stop ends the part and waits for it.
func (e *early) stop() error {
	e.cancel()
	<-e.done
	return e.err
}

// Run waits for the part's end, and ends it when ctx does.
func (e *early) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return e.stop()
	case <-e.done:
		return e.err
	}
}

// openAdmin listens before the bus is dialed: to recover a large store or to wait for a bus takes a
// while, and whoever watches the process must see that it lives and what it waits for.
func (p *process) openAdmin(ctx context.Context) error {
	token, err := telemetry.LoadToken(p.cfg.tokenFile())
	if err != nil {
		return err
	}
	p.admin, err = telemetry.NewAdmin(p.cfg.Admin, token, telemetry.Pages{
		Checks: []telemetry.Check{{Name: "bus", Ready: p.starting}},
	}, p.reg, p.part("admin"))
	if err != nil {
		return err
	}
	p.listening = startEarly(ctx, p.admin.Run)
	select {
	case p.adminAddr = <-p.admin.Bound():
	case <-p.listening.done:
		return fmt.Errorf("telemetry: %w", p.listening.err)
	}
	p.log.LogAttrs(ctx, slog.LevelInfo, "starting", slog.String("roles", p.roles.String()),
		slog.String("admin", p.adminAddr.String()), slog.String("waiting", p.starting().Error()))
	return nil
}

var (
	errRecovering = errors.New("recovering the store")
	errWaiting    = errors.New("waiting for the bus")
)

// starting is why a process whose bus is not there yet is not ready.
func (p *process) starting() error {
	if p.cfg.NATS.Embedded() {
		return fmt.Errorf("%w in %s", errRecovering, p.cfg.NATS.StoreDir)
	}
	return fmt.Errorf("%w at %s", errWaiting, config.MaskURLs(p.cfg.NATS.URL))
}

// pages are the admin listener's once everything is built.
func (p *process) pages() telemetry.Pages {
	return telemetry.Pages{
		Checks: p.checks(), Ledger: ledgerPage(p.bus, p.part("admin")), NATS: p.bus.Monitor(), Reload: p.reload,
		More:  slices.Concat(p.enginePages(), p.gatewayPages(), p.peersPages()),
		Trace: p.tracePage(), Targets: p.targets.page(), RemoveTarget: p.targets.removePage(), Record: recordPage(p.bus, p.part("admin")),
		Export: exportPage(busLogs{bus: p.bus, node: p.cfg.Node.Name, maxTxs: p.cfg.Orders.MaxTxs}, p.part("admin")),
	}
}
