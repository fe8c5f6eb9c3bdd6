package discovery

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"millrace/internal/retry"
)

const (
	// registerTries are made at the predecessors' pace; then the pauses grow.
	registerTries = 10
	registerPause = 10 * time.Second
	registerMost  = 5 * time.Minute
	// renewEvery is how often our certificate is compared with the one that was registered.
	renewEvery = 10 * time.Second
)

// registrar keeps us registered with a hub. A hub that is away is asked forever: without it our orders
// still go out, and only peers that don't know us yet refuse them.
type registrar struct {
	register    func(ctx context.Context, certificate string) error
	certificate func() string
	log         *slog.Logger
	metrics     *registerMetrics

	mu    sync.Mutex
	state Registration
}

// Registration is how far registering with a hub has come.
type Registration struct {
	// At is when the hub took it last; zero: not yet.
	At time.Time
	// Tries failed in a row since; Err is the last one's error, nil after a success.
	Tries int
	Err   error
}

func (r *registrar) run(ctx context.Context) {
	for ctx.Err() == nil {
		own := r.certificate()
		if !r.insist(ctx, own) {
			return
		}
		for r.certificate() == own {
			if !retry.Pause(ctx, renewEvery) {
				return
			}
		}
	}
}

// insist tries until the hub takes it, or until ctx ends. A certificate that is renewed meanwhile is for
// the next round.
func (r *registrar) insist(ctx context.Context, certificate string) bool {
	for n := 1; ; n++ {
		err := r.register(ctx, certificate)
		if ctx.Err() != nil {
			return false
		}
		r.note(ctx, n, err)
		if err == nil {
			return true
		}
		if !retry.Pause(ctx, registerWait(n)) {
			return false
		}
	}
}

// registerWait is the pause after try n, from one.
func registerWait(n int) time.Duration {
	if n < registerTries {
		return registerPause
	}
	return retry.Backoff(n-registerTries+1, registerPause, registerMost)
}

func (r *registrar) note(ctx context.Context, n int, err error) {
	r.mu.Lock()
	r.state.Tries, r.state.Err = n, err
	if err == nil {
		r.state.Tries, r.state.At = 0, time.Now()
	}
	r.mu.Unlock()
	r.metrics.note(err)
	switch {
	case err == nil:
		r.log.LogAttrs(ctx, slog.LevelInfo, "registered with the builder hub", slog.Int("tries", n))
	case n == 1 || n == registerTries:
		r.log.LogAttrs(ctx, slog.LevelWarn, "builder hub does not register us, trying on", slog.Int("tries", n), slog.Any("error", err))
	default:
		r.log.LogAttrs(ctx, slog.LevelDebug, "builder hub does not register us, trying on", slog.Int("tries", n), slog.Any("error", err))
	}
}

func (r *registrar) current() Registration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}
