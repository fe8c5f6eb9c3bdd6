package dispatch

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/internal/rpcapi"
)

// queues is how many there are: each class has one for retries, and one for the others at the index after it.
const queues = 2 * (rpcapi.Classes + 1)

// Dispatcher gives out the places of nodes. All its methods may be called at any time.
type Dispatcher struct {
	start   time.Time
	metrics *metrics
	waiters sync.Pool

	mu  sync.Mutex
	cfg Config
	// Between two calls this holds: no free node may serve a call that waits.
	queues  [queues]queue
	turn    turn
	nodes   []*node
	members map[rpcapi.Tag]*node
	// gone are nodes that are no members any more, with places that are still taken.
	gone    map[rpcapi.Tag]*node
	scratch []*node
	// waiting and taken are sums over all queues and all nodes.
	waiting, taken int
	stopping       bool
	// idle is closed when nothing waits and no place is taken; nil: nobody asked.
	idle chan struct{}
	// room is closed when a place is free that no call waits for; nil: nobody asked.
	room    chan struct{}
	alarms  alarms
	timer   *time.Timer
	armed   bool
	firesAt time.Duration
}

// New returns a dispatcher without nodes.
func New(cfg Config, reg prometheus.Registerer) (*Dispatcher, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	d := &Dispatcher{start: time.Now(), members: map[rpcapi.Tag]*node{}, gone: map[rpcapi.Tag]*node{}}
	d.waiters.New = func() any { return &waiter{ready: make(chan struct{}, 1)} }
	d.metrics = newMetrics(reg, d)
	d.adopt(cfg)
	return d, nil
}

// Reload puts another policy in force, or changes nothing if cfg has a fault. Calls that wait stay, with the deadlines
// they came with, also where there are more of them than may be from now on; the serving order goes on from where it
// stands.
func (d *Dispatcher) Reload(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.adopt(cfg.withDefaults())
	return nil
}

// adopt makes cfg the policy; mu is held, or nobody knows d yet.
func (d *Dispatcher) adopt(cfg Config) {
	d.cfg = cfg
	d.turn.fastPerHigh, d.turn.lowEvery, d.turn.drainFast = cfg.FastPerHigh, cfg.LowEvery, cfg.DrainFast
	d.metrics.allow(&cfg)
}

// now is the monotonic time since New.
func (d *Dispatcher) now() time.Duration { return time.Since(d.start) }

// Acquire waits for a place. It fails with rpcapi.ErrQueueFull, ErrQueueTimeout, ErrNodeTimeout, ErrNoNode,
// ErrFilterNotFound when w.Node is no member, ErrStopping, or the cause of ctx's end. It does not keep w.
func (d *Dispatcher) Acquire(ctx context.Context, w *Want) (Place, error) {
	p, wt, err := d.enter(ctx, w)
	if wt != nil {
		p, err = d.wait(ctx, wt)
		d.waiters.Put(wt)
	}
	if err != nil {
		d.metrics.refuse(w.class(), err)
		return Place{}, err
	}
	d.metrics.wait[w.class()].Observe(p.Queued.Seconds())
	return p, nil
}

// TryAcquire takes a place if one is free that w may have, never one of a node to avoid or an unhealthy one. It neither waits nor takes a
// turn of the serving order: it is for hedges, which are of no use where the call is already.
func (d *Dispatcher) TryAcquire(w *Want) (Place, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.nodes) == 0 {
		return Place{}, false
	}
	x := d.choose(w)
	if x == nil || slices.Contains(w.Avoid, x.tag) || x.standing.State == Unhealthy {
		return Place{}, false
	}
	return d.take(x, w.class()), true
}

// Release gives a place back: it goes to the first call, in serving order, that its node may serve. The zero Place
// is nothing. Giving a place back twice is a fault of the caller; it panics where it shows.
func (d *Dispatcher) Release(p Place) {
	x := p.node
	if x == nil {
		return
	}
	d.mu.Lock()
	if x.busy == 0 {
		d.mu.Unlock()
		panic("dispatch: a place was given back twice")
	}
	x.busy--
	d.taken--
	var w *waiter
	if x.free() {
		w = d.serve(x)
	}
	if x.busy == 0 && d.gone[x.tag] == x {
		delete(d.gone, x.tag)
	}
	d.settle()
	d.tellRoom()
	d.mu.Unlock()
	if w != nil {
		w.ready <- struct{}{}
	}
}

// enter gives the call a place, refuses it, or puts it into its queue.
func (d *Dispatcher) enter(ctx context.Context, w *Want) (Place, *waiter, error) {
	if ctx.Err() != nil {
		return Place{}, nil, context.Cause(ctx)
	}
	now := d.now()
	since := now
	if !w.Received.IsZero() {
		since = w.Received.Sub(d.start)
	}
	c := w.class()
	d.mu.Lock()
	defer d.mu.Unlock()
	deadline := since + d.cfg.Timeout
	if err := d.refusal(w, deadline-now); err != nil {
		return Place{}, nil, err
	}
	if x := d.choose(w); x != nil {
		var has perClass[bool]
		has[c] = true
		d.turn.next(has)
		p := d.take(x, c)
		p.QueueStart++
		return p, nil, nil
	}
	length := d.length(c)
	if most := d.cfg.Max[c]; most > 0 && length >= most && w.Position != Front {
		return Place{}, nil, rpcapi.ErrQueueFull
	}
	wt := d.waiters.Get().(*waiter)
	wt.want, wt.since, wt.deadline = *w, now, deadline
	wt.place, wt.err = Place{QueueStart: length + 1}, nil
	d.enqueue(wt, now)
	return Place{}, wt, nil
}

// refusal says why a call is not let in at all.
func (d *Dispatcher) refusal(w *Want, left time.Duration) error {
	switch {
	case d.stopping && w.Position != Front:
		return rpcapi.ErrStopping
	case left <= 0:
		return rpcapi.ErrQueueTimeout
	}
	return d.unknown(w)
}

// wait returns when the call's outcome is known or ctx has ended.
func (d *Dispatcher) wait(ctx context.Context, w *waiter) (Place, error) {
	select {
	case <-w.ready:
		p := w.place
		p.Queued = d.now() - w.since
		return p, w.err
	case <-ctx.Done():
	}
	d.mu.Lock()
	waits := w.at != 0
	if waits {
		d.dequeue(w)
		d.settle()
		d.tellRoom()
	}
	d.mu.Unlock()
	if !waits {
		// Somebody was faster: the word is on its way, and with it perhaps a place, which the next one can use.
		<-w.ready
		d.Release(w.place)
	}
	return Place{}, context.Cause(ctx)
}

// Waiting is how many calls of a class wait, retries included.
func (d *Dispatcher) Waiting(c rpcapi.Class) int {
	if c > rpcapi.Low {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.length(c)
}

// Load is what the members have to do, in the order of the set.
func (d *Dispatcher) Load() []Load {
	d.mu.Lock()
	defer d.mu.Unlock()
	loads := make([]Load, len(d.nodes))
	for i, x := range d.nodes {
		loads[i] = Load{Tag: x.tag, Busy: x.busy, Places: x.places, Limit: x.limit, Standing: x.standing}
	}
	return loads
}

// Stop refuses new calls from now on.
func (d *Dispatcher) Stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopping = true
}

// Drain returns when nothing waits and no place is taken, or with the cause of ctx's end.
func (d *Dispatcher) Drain(ctx context.Context) error {
	d.mu.Lock()
	if d.idle == nil {
		d.idle = make(chan struct{})
	}
	idle := d.idle
	d.settle()
	d.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
