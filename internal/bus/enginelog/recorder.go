package enginelog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"millrace/internal/engineapi/record"
	"millrace/subjects"
)

// Recorder records calls and their outcomes. Request and Outcome may be called from before Run until
// long after it, from any goroutine; neither ever waits for a disk or a network.
type Recorder struct {
	cfg Config
	bus Bus
	log *slog.Logger
	m   *metrics
	// acks is how long an acknowledgement is waited for: ackTimeout.
	acks time.Duration

	mu     sync.Mutex
	queue  []pending
	bytes  int64 // of queue; at most cfg.QueueMax, above which the new record is lost
	moving int64 // of what is on its way from queue to journal
	closed bool
	alarm  *time.Timer // rings lazily after the first request that woke nobody
	armed  bool
	wake   chan struct{} // one token: queue is not empty, or closed
	// journal is Run's, nil before it.
	journal *journal
}

// pending is a record that is not encoded yet. Exactly one of the two is set.
type pending struct {
	request *record.Request
	outcome *record.Outcome
	taken   time.Time
	size    int64
}

// recordOverhead is what a record is counted as beside its bytes.
const recordOverhead = 512

func (it *item) size() int64 { return int64(len(it.body)) + recordOverhead }

// New returns a Recorder that spools in cfg.SpoolDir and publishes on b. reg gets the
// millrace_engine_record… and millrace_engine_spool… series.
func New(cfg Config, b Bus, log *slog.Logger, reg prometheus.Registerer) (*Recorder, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.QueueMax == 0 {
		cfg.QueueMax = queueMax
	}
	return &Recorder{cfg: cfg, bus: b, log: log, m: newMetrics(reg), acks: ackTimeout, wake: make(chan struct{}, 1)}, nil
}

// lazily is how long a request's record may wait in memory for whoever spools it: that work is for after the
// answer, as it would take a CPU from the call that it is a record of. Its outcome ends the wait, or half a queue.
const lazily = 5 * time.Millisecond

// Request records a call that is being dispatched. It keeps r: nobody may change it, or its bytes, any
// more. Records are stored in the order of these calls.
func (r *Recorder) Request(req *record.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.take(pending{request: req, taken: time.Now(), size: int64(len(req.Raw)) + recordOverhead})
	switch {
	case r.bytes > r.cfg.QueueMax/2:
		r.signal()
	case !r.armed:
		r.armed = true
		if r.alarm == nil {
			r.alarm = time.AfterFunc(lazily, r.ring)
		} else {
			r.alarm.Reset(lazily)
		}
	}
}

// ring is the alarm. It is not disarmed by an outcome: to arm it for each call would cost more than what it
// is to save.
func (r *Recorder) ring() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.armed = false
	if len(r.queue) > 0 {
		r.signal()
	}
}

// Outcome records how a call ended. It keeps o.
func (r *Recorder) Outcome(o *record.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.take(pending{outcome: o, taken: time.Now(), size: recordOverhead})
	r.signal()
}

// take queues a record; mu is held.
func (r *Recorder) take(p pending) {
	switch {
	case r.closed:
		r.m.lose(lostClosed, 1)
	case r.bytes+p.size > r.cfg.QueueMax && len(r.queue) > 0:
		r.m.lose(lostQueue, 1)
	default:
		r.queue = append(r.queue, p)
		r.bytes += p.size
		r.m.queueBytes.Set(float64(r.bytes))
	}
}

func (r *Recorder) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// drain empties the queue; closed says that nothing will come any more. The slice that is handed in is
// used for what comes next.
func (r *Recorder) drain(spare []pending) (all []pending, closed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all, r.queue = r.queue, spare[:0]
	r.bytes, r.moving = 0, r.bytes
	r.m.queueBytes.Set(0)
	return all, r.closed
}

// Run spools and publishes what is recorded until ctx ends, then spools the rest and publishes for at
// most DrainTimeout. It is called once. Errors are those of opening the spool (ErrLocked), before anything was
// recorded, and of a bus that is closed.
func (r *Recorder) Run(ctx context.Context) error {
	s, lost, err := openSpool(r.cfg.SpoolDir, r.cfg.SpoolMax)
	if err != nil {
		return fmt.Errorf("record engine: %w", err)
	}
	r.m.found(lost)
	j := newJournal(s, r.cfg.QueueMax, r.log, r.m)
	defer j.close()
	r.mu.Lock()
	r.journal = j
	r.mu.Unlock()
	if n := j.left(); n > 0 || lost != (losses{}) {
		r.log.LogAttrs(ctx, slog.LevelInfo, "engine spool holds records of an earlier process",
			slog.Int("records", n), slog.Int("torn", lost.torn), slog.Int("damaged", lost.damaged))
	}
	nc, err := r.bus.EngineRecord()
	if err != nil {
		return fmt.Errorf("record engine: %w", err)
	}
	p, err := newPublisher(nc, j, r.acks, r.log, r.m)
	if err != nil {
		return fmt.Errorf("record engine: %w", err)
	}
	// The publisher outlives ctx by what is left to publish.
	publishing, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.run(publishing) })
	g.Go(func() error {
		r.spool(gctx, j)
		p.last()
		t := time.AfterFunc(DrainTimeout, func() { stop(errDrained) })
		defer t.Stop()
		<-p.ended
		return nil
	})
	err = g.Wait()
	if n := j.left(); n > 0 {
		r.log.LogAttrs(ctx, slog.LevelWarn, "records stay in the engine spool", slog.Int("records", n))
	}
	return err
}

// errDrained ends a publisher that had its time.
var errDrained = errors.New("drain timeout")

// spool moves records from the queue to the journal until ctx ends, and then the rest.
func (r *Recorder) spool(ctx context.Context, j *journal) {
	var spare []pending
	stopping := context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.closed = true
		r.signal()
	})
	defer stopping()
	for range r.wake {
		all, closed := r.drain(spare)
		for i := range all {
			j.add(ctx, all[i].item())
			r.moved(all[i].size)
			all[i] = pending{} // its bytes are the spool's now
		}
		spare = all
		if closed {
			return
		}
	}
}

// moved notes that the journal has a record of that size.
func (r *Recorder) moved(size int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moving -= size
}

// item encodes a record.
func (p *pending) item() *item {
	if p.request != nil {
		return &item{
			id: p.request.ID, kind: subjects.EngineRequestKind, taken: p.taken, method: p.request.Method, body: p.request.Encode(),
		}
	}
	return &item{
		id: p.outcome.ID, kind: subjects.EngineOutcomeKind, taken: p.taken, method: p.outcome.Method, body: p.outcome.Encode(),
	}
}
