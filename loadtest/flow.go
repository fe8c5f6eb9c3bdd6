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

// Spacing is how an open loop spaces its orders.
type Spacing uint8

// The spacings.
const (
	SpacingEven    Spacing = iota + 1 // one every 1/rate seconds
	SpacingPoisson                    // independent arrivals with that mean
)

// Flow is one stream of orders over its own connections.
type Flow struct {
	Name        string
	Corpus      CorpusConfig
	URLs        []string      // doors; connection i uses URLs[i % len]
	Rate        float64       // orders per second; zero: closed loop
	Spacing     Spacing       // default even
	Connections int           // default 32
	Duration    time.Duration // how long to send; zero: until Count or the context's end
	Count       uint64        // orders in all; zero: until Duration
	First       uint64        // first order of the corpus
	Preload     uint64        // orders made before the start
	Timeout     time.Duration // per request, default 10 s
	// Resend is how often an order without a final answer (unknown, unsent, 503) is sent again,
	// byte by byte the same, as a careful sender does; ResendPause lies between.
	Resend      int
	ResendPause time.Duration
}

// Sender runs one flow and writes its results into a journal.
type Sender struct {
	flow    Flow
	feed    *Feed
	journal *Journal
	targets []*url.URL

	mu    sync.Mutex // guards what follows
	start time.Time
	next  time.Time // intended time of the next order
	rng   *rand.Rand
}

// NewSender checks the flow. Results go to j, which several senders may share.
func NewSender(f Flow, j *Journal) (*Sender, error) {
	if f.Connections == 0 {
		f.Connections = 32
	}
	if f.Timeout == 0 {
		f.Timeout = 10 * time.Second
	}
	if f.Connections < 0 || f.Rate < 0 || f.Resend < 0 || len(f.URLs) == 0 {
		return nil, fmt.Errorf("%w: flow %q", ErrConfig, f.Name)
	}
	c, err := NewCorpus(f.Corpus)
	if err != nil {
		return nil, fmt.Errorf("flow %q: %w", f.Name, err)
	}
	s := &Sender{flow: f, feed: NewFeed(c, f.First, f.Count), journal: j, rng: rand.New(rand.NewPCG(f.Corpus.Seed, 1))} //nolint:gosec // reproducible on purpose
	for _, raw := range f.URLs {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "http" || u.Port() == "" {
			return nil, fmt.Errorf("%w: door %q", ErrConfig, raw)
		}
		s.targets = append(s.targets, u)
	}
	return s, nil
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
	s.begin(time.Now())
	var conns errgroup.Group
	for i := range s.flow.Connections {
		u := s.targets[i%len(s.targets)]
		c := &conn{addr: u.Host, host: u.Host, path: u.RequestURI(), timeout: s.flow.Timeout}
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

// loop is one connection's life.
func (s *Sender) loop(ctx, gctx context.Context, c *conn) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		o, intended, err := s.take(gctx)
		if errors.Is(err, ErrExhausted) || gctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		late := intended
		if wait := time.Until(intended); wait > 0 {
			late = time.Time{} // the connection was free in time
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-gctx.Done():
				return nil
			}
		}
		r := s.deliver(ctx, c, o)
		r.Intended = intended
		if intended.IsZero() {
			r.Intended = r.Sent
		}
		from := r.Sent
		if !late.IsZero() {
			from = late
		}
		r.Latency = r.Done.Sub(from)
		s.journal.add(r)
	}
}

// take returns the next order and its intended time (zero in a closed loop).
func (s *Sender) take(ctx context.Context) (*Order, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	intended := s.next
	if s.flow.Rate == 0 {
		intended = time.Now()
	}
	if s.flow.Duration > 0 && intended.Sub(s.start) >= s.flow.Duration {
		return nil, time.Time{}, ErrExhausted
	}
	o, err := s.feed.Next(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	if s.flow.Rate == 0 {
		return o, time.Time{}, nil
	}
	gap := float64(time.Second) / s.flow.Rate
	if s.flow.Spacing == SpacingPoisson {
		gap *= s.rng.ExpFloat64()
	}
	s.next = s.next.Add(time.Duration(gap))
	return o, intended, nil
}

// deliver sends one order, again if the flow says so, and describes what came of it.
func (s *Sender) deliver(ctx context.Context, c *conn, o *Order) Result {
	r := Result{
		Tag: o.Tag, Shape: o.Shape, Signer: o.Signer, UUID: o.UUID, Nonce: o.Nonce, Hash: o.Hash,
		Txs: o.Txs, Repeats: o.Repeats, Size: len(o.Body), Sent: time.Now(),
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

func (s *Sender) attempt(ctx context.Context, c *conn, o *Order, r *Result) {
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
