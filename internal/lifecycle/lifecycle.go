// Package lifecycle runs the parts of a process and stops them one after the other.
//
// A pipeline that is cut all at once loses what is between two stages. So each part has a context
// of its own, and the parts stop in the reverse of the order in which they were started: what was
// listed last, the intake, stops first and has ended before what it feeds is told to stop.
//
// # Shutdown
//
// [Run] begins to stop when its context ends or when any part returns, whatever it returns: a part
// that ends by itself is a failure, because the pipeline has a hole without it. Each part has a
// drain deadline; one that misses it is named in the error and left behind, so that a hanging part
// can't keep those below it from draining. When a part fails that the others need to drain
// ([Component].Base), they are not asked to: all stop at once.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// DefaultDrain is how long a part may take to end when its Drain is zero.
const DefaultDrain = 10 * time.Second

// AbandonAfter is how long all parts together may take to end after a Base part has failed.
const AbandonAfter = 2 * time.Second

var (
	// ErrEnded is the failure of a part that returned nil without being told to stop.
	ErrEnded = errors.New("ended by itself")
	// ErrDrain is the failure of a part that was still running at its drain deadline.
	ErrDrain = errors.New("still running at the drain deadline")
)

// Component is one part of a process.
type Component struct {
	// Name stands in errors.
	Name string
	// Run blocks until its context ends and everything that it owns has ended.
	Run func(context.Context) error
	// Drain bounds the time between the end of Run's context and its return; zero: DefaultDrain.
	Drain time.Duration
	// Base: the other parts can't drain without this one. When it fails, all of them are told to
	// stop at once and get AbandonAfter together.
	Base bool
}

// running is a started component; done is closed after err was set.
type running struct {
	Component
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// Run starts the components in order, waits until ctx ends or one of them returns, and stops them
// in reverse order, each only after the one before has ended. It returns the failures joined, each
// with its component's name: nil when all ended cleanly after ctx did.
func Run(ctx context.Context, components ...Component) error {
	ended := make(chan *running, len(components)) // each sends once, so a send never blocks
	rs := make([]*running, len(components))
	for i, c := range components {
		rs[i] = start(ctx, c, ended)
	}

	var errs []error
	if len(rs) > 0 {
		select {
		case <-ctx.Done():
		case r := <-ended:
			errs = append(errs, r.failure())
			if r.Base {
				abandon(rs)
				return errors.Join(errs...)
			}
		}
	}
	for _, r := range slices.Backward(rs) {
		if err := r.stop(); err != nil && !contains(errs, err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func start(ctx context.Context, c Component, ended chan<- *running) *running {
	// Not the caller's context: that would stop every part at the same moment.
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &running{Component: c, cancel: cancel, done: make(chan struct{})}
	go func() {
		r.err = c.Run(own)
		if own.Err() == nil && r.err == nil {
			r.err = ErrEnded
		}
		if own.Err() != nil && errors.Is(r.err, context.Canceled) {
			r.err = nil // the usual way to say "told to stop"
		}
		close(r.done)
		ended <- r
	}()
	return r
}

// stop cancels r and waits for it, at most until its drain deadline.
func (r *running) stop() error {
	r.cancel()
	drain := r.Drain
	if drain == 0 {
		drain = DefaultDrain
	}
	deadline := time.NewTimer(drain)
	defer deadline.Stop()
	select {
	case <-r.done:
		return r.failure()
	case <-deadline.C:
		return fmt.Errorf("%s: %w (%s)", r.Name, ErrDrain, drain)
	}
}

// abandon tells all parts to stop at once. What they say about it follows from the failure before.
func abandon(rs []*running) {
	for _, r := range rs {
		r.cancel()
	}
	deadline := time.NewTimer(AbandonAfter)
	defer deadline.Stop()
	for _, r := range rs {
		select {
		case <-r.done:
		case <-deadline.C:
			return
		}
	}
}

// failure is r's error with its name, once r is done.
func (r *running) failure() error {
	if r.err == nil {
		return nil
	}
	return &failure{r: r}
}

// failure is compared by its component, so that the first failure is not reported twice.
type failure struct{ r *running }

func (f *failure) Error() string { return f.r.Name + ": " + f.r.err.Error() }
func (f *failure) Unwrap() error { return f.r.err }

func contains(errs []error, err error) bool {
	f, ok := errors.AsType[*failure](err)
	if !ok {
		return false
	}
	for _, e := range errs {
		if g, ok := errors.AsType[*failure](e); ok && g.r == f.r {
			return true
		}
	}
	return false
}
