package listener

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// Run runs the parts of a door until ctx ends or one of them fails; the context of drain is done in that case alone.
// After drain, the contexts of the parts end. Run returns when all have.
func Run(ctx context.Context, drain func(failed context.Context) error, parts ...func(context.Context) error) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, failed := errgroup.WithContext(serving)
	for _, part := range parts {
		g.Go(func() error { return part(serving) })
	}
	g.Go(func() error {
		defer stop()
		select {
		case <-ctx.Done():
		case <-failed.Done():
		}
		return drain(failed)
	})
	return g.Wait()
}

// Linger waits until load balancers have noticed that the door is not ready any more. It does not when failed is
// done: nobody would be served.
func Linger(failed context.Context, delay time.Duration) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-failed.Done():
	}
}

// Shutdown stops accepting and waits for the requests in flight. That ctx ends before them is an error, and their
// connections are closed.
func (l *Listener) Shutdown(ctx context.Context) error {
	if err := l.server.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("drain %s: %w", l.what, err), l.server.Close())
	}
	return nil
}

// cutWait is how long what was cut off may take to end.
const cutWait = 5 * time.Second

// Farewell is how a Listener lets go of who is inside.
type Farewell struct {
	Patience time.Duration // for what is in flight
	Visits   *Visits       // handlers that the server does not wait for
	Cut      func()        // called after Patience: ends what is left
	Grace    time.Duration // for answers to what was cut off, at most 5 s; then connections are closed
}

// Drain stops accepting, waits for what is in flight, and cuts the rest off. It fails when that does not end even so.
// It takes its time whether or not ctx ends: that may well be the context that Cut ends.
func (l *Listener) Drain(ctx context.Context, f Farewell) error {
	ctx = context.WithoutCancel(ctx)
	waiting, cancel := context.WithTimeout(ctx, f.Patience)
	defer cancel()
	err := l.server.Shutdown(waiting)
	f.Visits.Close() // who came in until now was served
	if err == nil {
		err = f.Visits.Wait(waiting)
	}
	if err == nil {
		return nil
	}
	f.Cut()
	last, cancel := context.WithTimeout(ctx, cutWait)
	defer cancel()
	grace, cancel := context.WithTimeout(last, f.Grace)
	defer cancel()
	if err = l.server.Shutdown(grace); err != nil {
		err = l.server.Close()
	}
	return errors.Join(err, f.Visits.Wait(last))
}
