package discovery

import (
	"context"
	"math/rand/v2"
	"time"

	"millrace/internal/retry"
)

// firstRetry is the pause after a source's first failure; it doubles, up to the source's own interval.
const firstRetry = time.Second

// answer is what a source said.
type answer struct {
	peers []Peer
	skips []Skip
}

// result is what became of asking a source.
type result struct {
	source Source
	answer answer
	err    error
}

// source is asked at intervals, and when it is nudged.
type source struct {
	kind  Source
	every time.Duration
	list  func(context.Context) (answer, error)
	nudge chan struct{} // holds one: more say the same
}

func newSource(kind Source, every time.Duration, list func(context.Context) (answer, error)) *source {
	return &source{kind: kind, every: every, list: list, nudge: make(chan struct{}, 1)}
}

// refresh has the source asked at once, and once more if it is being asked now.
func (s *source) refresh() {
	select {
	case s.nudge <- struct{}{}:
	default:
	}
}

func (s *source) ask(ctx context.Context) result {
	a, err := s.list(ctx)
	return result{source: s.kind, answer: a, err: err}
}

// loop asks until ctx ends, for the first time after the given pause.
func (s *source) loop(ctx context.Context, first time.Duration, out chan<- result) error {
	pause := first
	for failures := 0; s.wait(ctx, pause); {
		r := s.ask(ctx)
		select {
		case out <- r:
		case <-ctx.Done():
			return nil
		}
		if failures++; r.err == nil {
			failures = 0
		}
		pause = s.pace(failures)
	}
	return nil
}

func (s *source) wait(ctx context.Context, pause time.Duration) bool {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-s.nudge:
	case <-t.C:
	}
	return ctx.Err() == nil
}

// pace is the interval give or take an eighth, so that many nodes don't ask together.
func (s *source) pace(failures int) time.Duration {
	if failures > 0 {
		return retry.Backoff(failures-1, min(firstRetry, s.every), s.every)
	}
	return s.every*7/8 + rand.N(s.every/4+1) //nolint:gosec // jitter
}
