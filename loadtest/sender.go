package loadtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// starveFloor is from when on a wait for an order counts as the feed's: less is a lock.
const starveFloor = 200 * time.Microsecond

// dialsAtOnce bounds how many connections are opened at a time before the start.
const dialsAtOnce = 64

// exchanger is one connection to a door.
type exchanger interface {
	open(ctx context.Context)
	do(ctx context.Context, o *Order) (x exchange, wrote bool, err error)
	close()
}

// Sender runs one flow and writes its results into a journal.
type Sender struct {
	flow    Flow
	feed    *Feed
	journal *Journal
	targets []*url.URL
	dial    func(*url.URL) exchanger
	sleep   func(context.Context, time.Duration) // a timer; may be late

	mu      sync.Mutex // guards what follows
	start   time.Time
	next    time.Time // intended time of the next order
	rng     *rand.Rand
	starved Starvation
}

// Starvation is what the generator failed to do in time for want of signed orders.
type Starvation struct {
	Orders int `json:"orders"` // that were not made when they were due
	// Shift is by how much the schedule was moved for them, so that the door isn't blamed.
	Shift time.Duration `json:"shift_ns"`
}

// NewSender checks the flow. Results go to j, which several senders may share.
func NewSender(f Flow, j *Journal) (*Sender, error) {
	if f.Connections == 0 {
		f.Connections = 32
	}
	if f.Timeout == 0 {
		f.Timeout = 10 * time.Second
	}
	if f.Connections < 0 || f.Rate < 0 || f.Resend < 0 || f.Timeout < 0 || len(f.URLs) == 0 {
		return nil, fmt.Errorf("%w: flow %q", ErrConfig, f.Name)
	}
	c, err := NewCorpus(f.Corpus)
	if err != nil {
		return nil, fmt.Errorf("flow %q: %w", f.Name, err)
	}
	s := &Sender{
		flow: f, feed: NewFeed(c, f.First, f.Count), journal: j, sleep: pause,
		rng: rand.New(rand.NewPCG(f.Corpus.Seed, 1)), //nolint:gosec // reproducible on purpose
	}
	s.dial = func(u *url.URL) exchanger {
		return &conn{addr: u.Host, host: u.Host, path: u.RequestURI(), timeout: f.Timeout}
	}
	for _, raw := range f.URLs {
		u, err := parseDoor(raw)
		if err != nil {
			return nil, err
		}
		s.targets = append(s.targets, u)
	}
	return s, nil
}

// Starved returns what the feed was late with up to now.
func (s *Sender) Starved() Starvation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.starved
}

// Prepare makes the orders that the flow preloads.
func (s *Sender) Prepare(ctx context.Context) error {
	if s.flow.Preload == 0 {
		return nil
	}
	return s.feed.Preload(ctx, s.flow.Preload)
}

// Run sends until the flow's duration or count is reached or ctx ends; orders on the wire are waited
// for.
func (s *Sender) Run(ctx context.Context) error {
	feedCtx, stop := context.WithCancel(ctx)
	defer stop()
	g, gctx := errgroup.WithContext(feedCtx)
	g.Go(func() error { return s.feed.Run(feedCtx) })
	g.Go(func() error {
		defer stop()
		return s.send(ctx, gctx)
	})
	return g.Wait()
}

func (s *Sender) send(ctx, gctx context.Context) error {
	all := make([]exchanger, s.flow.Connections)
	var dials, conns errgroup.Group
	dials.SetLimit(dialsAtOnce)
	for i := range all {
		c := s.dial(s.targets[i%len(s.targets)])
		all[i] = c
		dials.Go(func() error {
			c.open(ctx)
			return nil
		})
	}
	_ = dials.Wait() // what didn't open is tried again with an order
	s.begin(time.Now())
	for _, c := range all {
		conns.Go(func() error {
			defer c.close()
			return s.loop(ctx, gctx, c)
		})
	}
	return conns.Wait()
}

func (s *Sender) begin(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.start, s.next = now, now
}

// slot is one place in the schedule.
type slot struct {
	order    *Order
	intended time.Time // zero in a closed loop
	free     bool      // the connection was free at the intended time
}

// loop is one connection's life.
func (s *Sender) loop(ctx, gctx context.Context, c exchanger) error {
	for {
		sl, err := s.take(gctx, time.Now())
		if errors.Is(err, ErrExhausted) || gctx.Err() != nil {
			return nil //nolint:nilerr // the end of the orders, or of the run
		}
		if err != nil {
			return err
		}
		if wait := time.Until(sl.intended); sl.free && wait > 0 {
			s.sleep(gctx, wait)
			if gctx.Err() != nil {
				return nil //nolint:nilerr // the end of the run
			}
		}
		r := s.deliver(ctx, c, sl.order)
		sl.account(&r)
		s.journal.add(r)
	}
}

// account splits what happened between the door and the generator. When the connection was free in
// time, a late start is the generator's own and only noted; else the wait for the connection is the
// door's and counts.
func (sl slot) account(r *Result) {
	r.Intended, r.Latency = sl.intended, r.Done.Sub(r.Sent)
	switch {
	case sl.intended.IsZero():
		r.Intended = r.Sent
	case sl.free:
		r.Scheduled, r.Late = true, max(r.Sent.Sub(sl.intended), 0)
	default:
		r.Waited, r.Latency = max(r.Sent.Sub(sl.intended), 0), r.Done.Sub(sl.intended)
	}
}

// take returns the next order for a connection that has been free since ready.
func (s *Sender) take(ctx context.Context, ready time.Time) (slot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	intended := s.next
	if s.flow.Rate == 0 {
		intended = ready
	}
	if s.flow.Duration > 0 && intended.Sub(s.start) >= s.flow.Duration {
		return slot{}, ErrExhausted
	}
	asked := time.Now()
	o, err := s.feed.Next(ctx)
	if err != nil {
		return slot{}, err
	}
	if due := later(asked, intended); time.Since(asked) > starveFloor && time.Since(due) > 0 {
		shift := time.Since(due)
		s.starved.Orders++
		s.starved.Shift += shift
		intended, s.next = intended.Add(shift), s.next.Add(shift)
	}
	if s.flow.Rate == 0 {
		return slot{order: o}, nil
	}
	gap := float64(time.Second) / s.flow.Rate
	if s.flow.Spacing == SpacingPoisson {
		gap *= s.rng.ExpFloat64()
	}
	s.next = s.next.Add(time.Duration(gap))
	return slot{order: o, intended: intended, free: !ready.After(intended)}, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// deliver sends one order, again if the flow says so, and describes what came of it.
func (s *Sender) deliver(ctx context.Context, c exchanger, o *Order) Result {
	r := Result{
		Tag: o.Tag, Shape: o.Shape, Signer: o.Signer, UUID: o.UUID, Nonce: o.Nonce, Hash: o.Hash,
		Txs: o.Txs, Repeats: o.Repeats, Sources: o.Sources, Size: len(o.Body), Sent: time.Now(),
	}
	for try := 0; ; try++ {
		s.attempt(ctx, c, o, &r)
		final := r.Answer == AnswerAccepted || r.Answer == AnswerRefused || r.Answer == AnswerError
		if final || try >= s.flow.Resend || ctx.Err() != nil {
			return r
		}
		if r.Answer == AnswerUnknown || r.Status == 503 {
			r.MayRepeat = true
		}
		pause(ctx, s.flow.ResendPause)
	}
}

func (s *Sender) attempt(ctx context.Context, c exchanger, o *Order, r *Result) {
	r.Status, r.Code, r.Reason, r.RetryAfter = 0, 0, "", false
	x, wrote, err := c.do(ctx, o)
	r.Done = time.Now()
	if wrote {
		r.Attempts++
	}
	switch {
	case err != nil && wrote:
		r.Answer, r.Reason = AnswerUnknown, err.Error()
		return
	case err != nil:
		r.Answer, r.Reason = AnswerUnsent, err.Error()
		return
	}
	r.Status, r.RetryAfter = x.status, x.retryAfter
	if err := readAnswer(r, x.body); err != nil {
		r.Reason = err.Error()
		r.Answer = AnswerError
		if r.Status == 429 || r.Status == 503 {
			r.Answer = AnswerShed
		}
		return
	}
	r.Answer = judge(r)
}

func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
