package cache

import (
	"context"
	"errors"
	"sync"

	"millrace/internal/rpcapi"
)

// ErrAborted is what those get who shared a call whose fetch did not return.
var ErrAborted = errors.New("a shared call was aborted")

// flightKey is what calls have in common that share an answer. A fast-track call does not wait for one in the low
// queue.
type flightKey struct {
	key   key
	class rpcapi.Class
}

// flights are the calls under way.
type flights struct {
	mu sync.Mutex
	by map[flightKey]*flight
}

// flight is a call under way. Its fields are guarded by flights.mu; answer, entry and err are written before done is
// closed, and read after.
type flight struct {
	era    era
	cancel context.CancelCauseFunc
	// callers wait for the answer; with none left the fetch is cancelled.
	callers int
	// done is there as soon as there is somebody besides the first.
	done chan struct{}

	answer rpcapi.Answer // without a body
	entry  *entry        // nil: body has it, since it has no id that could be replaced
	body   []byte
	err    error
}

// share joins the identical call under way, or makes one.
func (c *Cache) share(ctx context.Context, s *settings, call *rpcapi.Call, q *question, id []byte, source rpcapi.Source, fetch Fetch) (*rpcapi.Answer, rpcapi.Source, error) {
	k := flightKey{key: q.key, class: call.Class}
	f, own := c.flights.join(ctx, k, q.era)
	if own == nil {
		c.metrics.count(q.group, rpcapi.SourceCoalesced)
		if call.Waits != nil {
			call.Waits()
		}
		a, err := c.flights.wait(ctx, k, f, id)
		return a, rpcapi.SourceCoalesced, err
	}
	c.metrics.count(q.group, source)
	stop := context.AfterFunc(ctx, func() { c.flights.leave(k, f, context.Cause(ctx)) })
	var (
		a   *rpcapi.Answer
		err = ErrAborted
		e   *entry
	)
	defer func() { // also when fetch panics: others wait
		stop()
		c.flights.land(k, f, a, e, err)
		f.cancel(nil)
	}()
	a, err = fetch(own)
	if err == nil {
		e = c.store(s, q, a)
	}
	return a, source, err
}

// join returns the call under way, or puts a new one there, together with the context of its fetch. That context has
// the values of the first caller, but not its end.
func (fs *flights) join(ctx context.Context, k flightKey, now era) (f *flight, own context.Context) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	// One that began before the last head may say what is not true any more.
	if f := fs.by[k]; f != nil && f.era == now {
		f.callers++
		if f.done == nil {
			f.done = make(chan struct{})
		}
		return f, nil
	}
	f = &flight{era: now, callers: 1}
	own, f.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	fs.by[k] = f
	return f, own
}

// leave is a caller that does not wait any longer.
func (fs *flights) leave(k flightKey, f *flight, cause error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f.callers--; f.callers > 0 {
		return
	}
	fs.forget(k, f)
	f.cancel(cause)
}

func (fs *flights) forget(k flightKey, f *flight) {
	if fs.by[k] == f {
		delete(fs.by, k)
	}
}

// land hands the outcome to those who wait. The first caller's answer is its own from now on: they get a copy.
func (fs *flights) land(k flightKey, f *flight, a *rpcapi.Answer, e *entry, err error) {
	fs.mu.Lock()
	fs.forget(k, f)
	done := f.done
	fs.mu.Unlock()
	if done == nil {
		return
	}
	f.err, f.entry = err, e
	if a != nil {
		f.answer = *a
		f.answer.Body = nil
		if e == nil {
			f.take(a)
		}
	}
	close(done)
}

// take copies an answer that is not kept.
func (f *flight) take(a *rpcapi.Answer) {
	if said, ok := rpcapi.ReadAnswer(a.Body); ok {
		f.entry = newEntry(a, &said)
		return
	}
	f.body = append([]byte(nil), a.Body...)
}

// wait is the answer of somebody else's call, under the id of one's own.
func (fs *flights) wait(ctx context.Context, k flightKey, f *flight, id []byte) (*rpcapi.Answer, error) {
	select {
	case <-f.done:
	case <-ctx.Done():
		fs.leave(k, f, context.Cause(ctx))
		return nil, context.Cause(ctx)
	}
	if f.err != nil {
		return nil, underID(f.err, id)
	}
	a := f.answer
	if f.entry != nil {
		a.Body = f.entry.under(id)
	} else {
		a.Body = append([]byte(nil), f.body...)
	}
	return &a, nil
}

// underID is an error as another caller gets it: a node's own words bear the id of who asked.
func underID(err error, id []byte) error {
	var node *rpcapi.NodeError
	if !errors.As(err, &node) {
		return err
	}
	said, ok := rpcapi.ReadAnswer(node.Body)
	if !ok {
		return err
	}
	other := *node
	other.Body = said.WithID(node.Body, id)
	return &other
}
