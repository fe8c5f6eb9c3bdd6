package egress

import (
	"context"
	"errors"
	"sync"
	"time"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

// store is what outlives a process: the stored orders, what was acknowledged, the ledger, the lease.
type store struct {
	mu      sync.Mutex
	orders  [classes][]order.Delivery
	acked   [classes]map[uint64]bool
	batches []storedBatch
	removed bool
	arrived chan struct{} // closed and replaced when something is stored
	lease   chan struct{} // of size one: a token
	ackLoss bool          // acknowledgements are lost
	refuse  error         // what Append returns
	bodies  int           // read again
	tails   int           // reads of the ledger
	head    Head          // nil: none
	ahead   bool          // orders are tapped, and their copies come later and without bodies
}

type storedBatch struct {
	at    time.Time
	bytes []byte
}

func newStore() *store {
	s := &store{arrived: make(chan struct{}), lease: make(chan struct{}, 1)}
	for p := range s.acked {
		s.acked[p] = map[uint64]bool{}
	}
	s.lease <- struct{}{}
	return s
}

// put stores an order.
func (s *store) put(o *order.Order) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := o.Priority
	s.orders[p] = append(s.orders[p], order.Delivery{
		Order: o, Sequence: uint64(len(s.orders[p]) + 1), StoredAt: time.Now(), Deliveries: 1, Size: len(o.Body),
	})
	close(s.arrived)
	s.arrived = make(chan struct{})
}

// entries is the whole ledger.
func (s *store) entries() []ledger.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var es []ledger.Entry
	for _, b := range s.batches {
		e, err := ledger.Decode(b.bytes)
		if err != nil {
			panic(err)
		}
		es = append(es, e...)
	}
	return es
}

func (s *store) unacked() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.orders {
		n += len(s.orders[p]) - len(s.acked[p])
	}
	return n
}

func (s *store) set(f func(*store)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// process is one process's view of a store, until it dies.
type process struct {
	*store
	pmu   sync.Mutex
	dead  bool
	lost  context.CancelFunc
	valid bool
}

func (p *process) ports() Ports {
	return Ports{
		Clock: p, Lease: p, Head: p.head,
		Feed: func(string, string, order.Scope) Feed { return &feed{process: p} },
		Log:  func(string) Log { return &doneLog{process: p} },
	}
}

func (p *process) Now() time.Time { return time.Now() }

func (p *process) isDead() bool {
	p.pmu.Lock()
	defer p.pmu.Unlock()
	return p.dead
}

// kill is kill -9: nothing of the process has an effect any more.
func (p *process) kill() {
	p.pmu.Lock()
	p.dead = true
	p.pmu.Unlock()
	p.lose()
}

// lose takes the lease away.
func (p *process) lose() {
	p.pmu.Lock()
	defer p.pmu.Unlock()
	p.valid = false
	if p.lost != nil {
		p.lost()
	}
}

func (p *process) Hold(ctx context.Context, _ string, f func(context.Context, func() bool) error) error {
	select {
	case <-p.lease:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { p.lease <- struct{}{} }()
	if p.isDead() {
		return errors.New("dead")
	}
	held, cancel := context.WithCancel(ctx)
	defer cancel()
	p.pmu.Lock()
	p.lost, p.valid = cancel, true
	p.pmu.Unlock()
	return f(held, func() bool {
		p.pmu.Lock()
		defer p.pmu.Unlock()
		return p.valid
	})
}

type feed struct {
	*process
}

func (f *feed) Open(context.Context) error { return nil }

func (f *feed) Receive(ctx context.Context, p order.Priority, h func(order.Delivery)) error {
	next := 0
	f.mu.Lock()
	tapped := len(f.orders[p])
	f.mu.Unlock()
	for ctx.Err() == nil {
		f.mu.Lock()
		wait := f.arrived
		var d *order.Delivery
		if f.ahead && tapped < len(f.orders[p]) {
			c := f.orders[p][tapped]
			c.Deliveries = 0
			tapped++
			d = &c
		}
		for next < len(f.orders[p]) && d == nil {
			if !f.acked[p][uint64(next+1)] {
				c := f.orders[p][next]
				if f.ahead {
					bare := *c.Order
					bare.Body = nil
					c.Order = &bare
				}
				d = &c
			}
			next++
		}
		f.mu.Unlock()
		if d != nil {
			h(*d)
			continue
		}
		select {
		case <-wait:
		case <-ctx.Done():
		}
	}
	return nil
}

func (f *feed) Ack(p order.Priority, sequence uint64) error {
	if f.isDead() {
		return errors.New("dead")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ackLoss {
		f.acked[p][sequence] = true
	}
	return nil
}

func (f *feed) Body(_ context.Context, p order.Priority, sequence uint64) (order.Delivery, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bodies++
	return f.orders[p][sequence-1], nil
}

func (f *feed) Remove(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.removed = true
	return nil
}

type doneLog struct {
	*process
	expect int
}

func (l *doneLog) Append(_ context.Context, b []byte) error {
	if l.isDead() {
		return errors.New("dead")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		return l.refuse
	}
	if l.expect != len(l.batches) {
		return order.ErrFenced
	}
	l.batches = append(l.batches, storedBatch{at: time.Now(), bytes: append([]byte(nil), b...)})
	l.expect++
	return nil
}

func (l *doneLog) Tail(_ context.Context, since time.Time, f func([]byte) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tails++
	for _, b := range l.batches {
		if b.at.Before(since) {
			continue
		}
		if err := f(b.bytes); err != nil {
			return err
		}
	}
	l.expect = len(l.batches)
	return nil
}

// sink is a target that notes what it gets and answers what reply says.
type sink struct {
	mu    sync.Mutex
	sends []send
	reply func(n int, a Attempt) (Result, time.Duration)
	now   map[order.ReplacementKey]int
	twice int // requests of one replacement key at the same time
	open  [classes]int
}

type send struct {
	at      time.Time
	o       *order.Order
	number  int
	repeat  bool
	verdict Verdict
}

func (s *sink) Send(ctx context.Context, a Attempt) Result {
	s.mu.Lock()
	n := len(s.sends)
	r, delay := s.reply(n, a)
	s.sends = append(s.sends, send{at: time.Now(), o: a.Order, number: a.Number, repeat: a.Repeat, verdict: r.Verdict})
	key, replaces := a.Order.ReplacementKey()
	if s.now == nil {
		s.now = map[order.ReplacementKey]int{}
	}
	if replaces {
		if s.now[key]++; s.now[key] > 1 {
			s.twice++
		}
	}
	s.open[a.Order.Priority]++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if replaces {
			s.now[key]--
		}
		s.open[a.Order.Priority]--
	}()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return Result{Verdict: Lost, Text: "cut off"}
		}
	}
	return r
}

func (s *sink) all() []send {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]send(nil), s.sends...)
}

func accept(int, Attempt) (Result, time.Duration) { return Result{Verdict: Accepted, Status: 200}, 0 }
