package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"millrace/ingress"
	"millrace/internal/config"
)

// reloadable reports whether a key takes effect without a restart.
func reloadable(key string) bool {
	if slices.Contains([]string{"log.level", "builders"}, key) {
		return true
	}
	return slices.ContainsFunc([]string{
		"builder.", "ingress.rate_limit.", "ingress.shed_age.", "ingress.ip_rate.",
	}, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
}

// watch reloads on SIGHUP and when the configuration file changes, until ctx ends. A file system
// that can't be watched costs the second way only.
func (p *process) watch(ctx context.Context) error {
	hup := make(chan os.Signal, 1) // more than one at a time mean the same
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-hup:
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
	after := next.effective()
	changed := config.Changed(p.inForce, after)
	pinned := slices.DeleteFunc(slices.Clone(changed), reloadable)
	applied := slices.DeleteFunc(changed, func(k string) bool { return !reloadable(k) })
	if err := p.apply(&next.settings.Keys); err != nil {
		p.log.LogAttrs(ctx, slog.LevelError, "reload refused, the earlier configuration stays in force", slog.Any("error", err))
		return fmt.Errorf("%w: %w", errReload, err)
	}
	for i, s := range after { // what needs a restart is not in force, and named again next time
		if slices.Contains(pinned, s.Key) {
			after[i] = p.inForce[slices.IndexFunc(p.inForce, func(o config.Setting) bool { return o.Key == s.Key })]
		}
	}
	p.inForce = after
	if len(pinned) > 0 {
		p.log.LogAttrs(ctx, slog.LevelWarn, "changed keys need a restart", slog.Any("keys", pinned))
	}
	p.log.LogAttrs(ctx, slog.LevelInfo, "reloaded", slog.Any("keys", applied))
	return nil
}

// apply hands the new configuration to the parts that can take it, the one that can refuse first.
func (p *process) apply(cfg *Config) error {
	if p.delivery != nil {
		if err := p.delivery.reload(cfg); err != nil {
			return err
		}
	}
	if p.door != nil {
		// What needs a restart is named by reload, from the same configuration.
		if err := p.door.Reload(cfg.Ingress); err != nil && !errors.Is(err, ingress.ErrNeedsRestart) {
			return err
		}
	}
	p.log.SetLevel(cfg.Log.Level)
	return nil
}
