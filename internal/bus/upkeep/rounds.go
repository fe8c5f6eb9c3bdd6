package upkeep

import (
	"context"
	"log/slog"
	"time"
)

// rounds repeats one piece of housekeeping. A round that fails is logged when the failures begin
// and when they end.
type rounds struct {
	name   string
	log    *slog.Logger
	failed int
}

// every runs f at once and then each interval until ctx ends, and returns ctx's error.
func (r *rounds) every(ctx context.Context, interval time.Duration, f func(context.Context) error) error {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		r.note(ctx, f(ctx))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

func (r *rounds) note(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
	case err != nil:
		if r.failed++; r.failed == 1 {
			r.log.LogAttrs(ctx, slog.LevelWarn, "bus housekeeping fails",
				slog.String("part", r.name), slog.Any("error", err))
		}
	case r.failed > 0:
		r.log.LogAttrs(ctx, slog.LevelInfo, "bus housekeeping works again",
			slog.String("part", r.name), slog.Int("failed_rounds", r.failed))
		r.failed = 0
	}
}
