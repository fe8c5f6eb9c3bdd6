package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is the pause before try n (from zero): base doubled each time up to most, half of it random,
// so that callers that failed together don't come back together.
func Backoff(n int, base, most time.Duration) time.Duration {
	d := min(base<<min(n, 16), most)
	return d/2 + rand.N(d/2+1) //nolint:gosec // jitter
}

// Pause waits for d, or until ctx ends; it reports whether the wait was served. One that is zero or less
// is served unless ctx has ended.
func Pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
