package egress

import (
	"context"
	"log/slog"

	"millrace/internal/order"
)

// health is what the loop believes about its target.
type health struct {
	down     bool
	streak   int    // failed requests in a row
	probes   int    // on the wire, at most one
	failed   int    // probes in a row
	probeAt  micros // the next one
	downAt   micros
	lastText string
}

// judge learns from a result. A refused connection means down at once, other failures after a
// streak; any verdict on an order means up.
func (l *loop) judge(ctx context.Context, r sent, now micros) {
	h := &l.health
	if r.started.IsZero() || l.stage == stageDraining {
		if h.down && r.probe == probe {
			h.probeAt = now + micros(l.cfg.backoff(1).Microseconds())
		}
		return
	}
	switch r.res.Verdict {
	case Accepted, Rejected:
		h.streak = 0
		if h.down {
			l.up(ctx, now)
		}
		return
	default:
	}
	h.streak++
	h.lastText = r.res.Text
	switch {
	case h.down && r.probe == probe:
		h.failed++
		h.probeAt = now + micros(l.cfg.backoff(h.failed).Microseconds())
	case !h.down && (r.res.Verdict == Unreachable || h.streak >= l.cfg.FailStreak):
		l.down(ctx, now)
	}
}

func (l *loop) down(ctx context.Context, now micros) {
	h := &l.health
	h.down, h.failed, h.downAt = true, 0, now
	h.probeAt = now + micros(l.cfg.backoff(1).Microseconds())
	for _, p := range order.Priorities {
		l.newest[p] = true
	}
	l.metrics.setDown()
	l.isDown.Store(true)
	l.log.LogAttrs(ctx, slog.LevelWarn, "target down",
		slog.String("target", l.name), slog.Int("failures", h.streak), slog.String("last", h.lastText))
}

func (l *loop) up(ctx context.Context, now micros) {
	h := &l.health
	h.down = false
	l.metrics.setUp()
	l.isDown.Store(false)
	l.log.LogAttrs(ctx, slog.LevelInfo, "target up",
		slog.String("target", l.name), slog.Duration("after", (now-h.downAt).duration()),
		slog.Int("waiting", len(l.pending)))
}
