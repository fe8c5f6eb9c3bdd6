package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"millrace/ingress"
	"millrace/internal/config"
)

// pinned are the keys of reloadable sections that need a restart all the same: they size what is
// made once, and ingress.max_body the streams.
func pinned() []string {
	return []string{
		"ingress.listen", "ingress.builder_listen", "ingress.replay_listen", "ingress.replay_token_file", "ingress.max_body", "ingress.max_connections", "ingress.inflight_bytes",
		"ingress.body_timeout", "ingress.gate_queue", "ingress.cpu_slots", "ingress.max_entities",
	}
}

// reloadable reports whether a key takes effect without a restart.
func reloadable(key string) bool {
	section, _, _ := strings.Cut(key, ".")
	if section == "engine" {
		return key != "engine.replay.max_calls" && strings.HasPrefix(key, "engine.replay.") ||
			slices.Contains([]string{"engine.secondaries", "engine.failover", "engine.failover_after"}, key)
	}
	if section == "gateway" {
		return gatewayReloadable(key)
	}
	return !slices.Contains(pinned(), key) && slices.Contains([]string{"ingress", "builder", "builders"}, section) ||
		slices.Contains([]string{"log.level", "orders.head_url", "nats.tls.cert", "nats.tls.key", "peers.static"}, key)
}

// watch reloads on SIGHUP and when the configuration file changes, until ctx ends. A file system
// that can't be watched costs the second way only.
func (p *process) watch(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-p.hup:
				_ = p.reload(ctx) // says so itself
			}
		}
	})
	if path := p.app.parsed.resolver.Path(); path != "" {
		g.Go(func() error {
			err := config.Watch(ctx, path, func() { _ = p.reload(ctx) })
			if err != nil {
				p.log.LogAttrs(ctx, slog.LevelWarn, "configuration file is not watched, reload with SIGHUP", slog.Any("error", err))
			}
			return nil
		})
	}
	return g.Wait()
}

// reload reads the configuration again and puts in force what can change. A configuration with a
// fault changes nothing at all.
func (p *process) reload(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	next, err := p.app.parse(p.app.args)
	if err == nil {
		err = next.settings.Keys.fit(p.roles)
	}
	if err != nil {
		p.log.LogAttrs(ctx, slog.LevelError, "reload refused, the earlier configuration stays in force", slog.Any("error", err))
		return fmt.Errorf("%w: %w", errReload, err)
	}
	if err := p.apply(ctx, &next.settings.Keys); err != nil {
		p.log.LogAttrs(ctx, slog.LevelError, "reload refused, the earlier configuration stays in force", slog.Any("error", err))
		return fmt.Errorf("%w: %w", errReload, err)
	}
	applied, waiting := p.account(next.effective())
	if len(waiting) > 0 {
		p.log.LogAttrs(ctx, slog.LevelWarn, "changed keys need a restart", slog.Any("keys", waiting))
	}
	p.log.LogAttrs(ctx, slog.LevelInfo, "reloaded", slog.Any("keys", applied))
	return nil
}

// account notes what is in force after a reload, and returns the changed keys by whether they are.
// Those that are not are named again at the next reload, until a restart.
func (p *process) account(after []config.Setting) (applied, waiting []string) {
	wanted := slices.Clone(after)
	for _, key := range config.Changed(p.inForce, after) {
		if reloadable(key) && !p.fixed(key, wanted) {
			applied = append(applied, key)
			continue
		}
		waiting = append(waiting, key)
		is := func(s config.Setting) bool { return s.Key == key }
		after[slices.IndexFunc(after, is)] = p.inForce[slices.IndexFunc(p.inForce, is)]
	}
	p.inForce = after
	return applied, waiting
}

// fixed reports whether a reloadable key needs a restart this time: TLS goes on or off, which other
// files do not, the certificate is what this process shows to a bus elsewhere, or the queues of calls are on the bus.
func (p *process) fixed(key string, after []config.Setting) bool {
	if p.gateway.fixed(key) {
		return true
	}
	section, isTLS := strings.CutSuffix(strings.TrimSuffix(strings.TrimSuffix(key, "cert"), "key"), ".tls.")
	if !isTLS {
		return false
	}
	on := func(settings []config.Setting) bool {
		return slices.ContainsFunc(settings, func(s config.Setting) bool { return s.Key == section+".tls.cert" && s.Value != "" })
	}
	return on(p.inForce) != on(after) || section == "nats" && !p.cfg.NATS.Embedded()
}

// apply hands the new configuration to the parts that can take it, those that can refuse first.
func (p *process) apply(ctx context.Context, cfg *Config) error {
	if p.delivery != nil {
		if err := p.delivery.check(cfg); err != nil {
			return err
		}
	}
	var clients *engineSet
	if p.engine != nil {
		var err error
		if clients, err = p.engine.prepare(&cfg.Engine); err != nil {
			return err
		}
	}
	if err := p.bus.Reload(cfg.NATS); err != nil {
		return fmt.Errorf("nats.tls: %w", err)
	}
	if p.delivery != nil {
		if err := p.delivery.reload(cfg); err != nil {
			return err
		}
	}
	if p.engine != nil {
		if err := p.engine.adopt(clients); err != nil {
			return err
		}
	}
	if p.door != nil {
		next := cfg.Ingress // account compares what is in cfg
		next.MaxBody, next.Orders = p.cfg.Ingress.MaxBody, p.cfg.Ingress.Orders
		// What needs a restart is named by account.
		if err := p.door.Reload(next); err != nil && !errors.Is(err, ingress.ErrNeedsRestart) {
			return err
		}
	}
	if p.gateway != nil {
		if err := p.gateway.reload(ctx, &cfg.Gateway); err != nil {
			return err
		}
	}
	if p.peers != nil {
		if err := p.peers.finder.SetStatic(cfg.Peers.Discovery.Static); err != nil {
			return err
		}
	}
	if p.delivery != nil {
		p.delivery.follow(cfg.Orders.HeadURL)
	}
	p.log.SetLevel(cfg.Log.Level)
	return nil
}
