package engine

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"millrace/internal/engineapi"
)

const bearer = "bearer "

// authenticate judges the caller's token, or only whether there is one where the primary judges. The
// error's text is for the caller.
func (d *Door) authenticate(ctx context.Context, r *http.Request) error {
	value := r.Header.Get("Authorization")
	var err error
	if d.cfg.Auth == AuthVerify {
		err = d.secret.Verify(value, time.Now())
	} else if len(value) <= len(bearer) || !strings.EqualFold(value[:len(bearer)], bearer) {
		err = engineapi.ErrMissingToken
	}
	if err != nil {
		d.refused(ctx, reasonOf(err))
	}
	return err
}

func (d *Door) refused(ctx context.Context, reason string) {
	d.metrics.refusals[reason].Inc()
	d.refusals.note(ctx, d.log, reason)
}

// reasonOf is the metric's label for a refusal.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, engineapi.ErrMissingToken):
		return refusedMissing
	case errors.Is(err, engineapi.ErrInvalidSignature):
		return refusedSignature
	case errors.Is(err, engineapi.ErrExpiredToken):
		return refusedExpired
	case errors.Is(err, engineapi.ErrMissingIssuedAt):
		return refusedIssue
	case errors.Is(err, engineapi.ErrStaleToken):
		return refusedStale
	case errors.Is(err, engineapi.ErrFutureToken):
		return refusedFuture
	case strings.HasPrefix(err.Error(), "signing method"):
		return refusedAlgorithm
	}
	return refusedMalformed
}

// refusalInterval is how often refusals are logged at most.
const refusalInterval = 30 * time.Second

// refusals logs the first refusal and then one line per interval. Never the token, nor the refusal's
// text, which can repeat parts of it.
type refusals struct {
	mu    sync.Mutex
	next  time.Time
	since int
}

func (r *refusals) note(ctx context.Context, log *slog.Logger, reason string) {
	r.mu.Lock()
	r.since++
	now, count := time.Now(), r.since
	quiet := now.Before(r.next)
	if !quiet {
		r.next, r.since = now.Add(refusalInterval), 0
	}
	r.mu.Unlock()
	if !quiet {
		log.LogAttrs(ctx, slog.LevelWarn, "engine call refused", slog.String("reason", reason), slog.Int("count", count))
	}
}
