package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"millrace/internal/retry"
	"millrace/internal/rpcapi"
)

// follow keeps the chain at the head, at one source after the other.
func (f *Feed) follow(ctx context.Context) {
	p := newPicker(f.cfg(), push, poll)
	for fails := 0; ctx.Err() == nil; {
		src, _, ok := p.best(f.ports.Nodes.Nodes(), time.Now())
		if !ok {
			retry.Pause(ctx, f.cfg().Watch)
			continue
		}
		began := time.Now()
		s := &session{feed: f, source: src, picker: p}
		err := s.run(ctx)
		if ctx.Err() != nil {
			return
		}
		f.metrics.left[reasonOf(err)].Inc()
		f.log.LogAttrs(ctx, slog.LevelWarn, "source of the chain left",
			slog.String("node", src.node.Label), slog.String("mode", src.mode.String()), slog.Any("error", err))
		if reasonOf(err) != leftBetter {
			p.failed(src, time.Now())
		}
		if time.Since(began) > f.cfg().BackoffMax {
			fails = 0
		}
		if fails > 0 {
			retry.Pause(ctx, retry.Backoff(fails-1, f.cfg().BackoffMin, f.cfg().BackoffMax))
		}
		fails++
	}
}

// String is the mode as it stands in logs.
func (m mode) String() string {
	switch m {
	case push:
		return "push"
	case poll:
		return "poll"
	default:
		return fmt.Sprintf("mode(%d)", uint8(m))
	}
}

// session is the chain being followed at one source.
type session struct {
	feed   *Feed
	source source
	picker *picker
	// level says that the source has been as high as what clients have seen: before, another branch that it tells
	// of is what it had while it was behind.
	level bool
	// behind is since when another node is ahead; zero: none is.
	behind time.Time
}

// run follows until the source fails or should be left.
func (s *session) run(ctx context.Context) error {
	if s.source.mode == poll {
		return s.poll(ctx)
	}
	f := s.feed
	link, release, err := f.links.use(ctx, s.source.node)
	if err != nil {
		return err
	}
	defer release()
	within, cancel := context.WithTimeout(ctx, f.cfg().CallTimeout)
	defer cancel()
	up, err := link.subscribe(within, `["newHeads"]`, f.cfg().QueueResults)
	if err != nil {
		return err
	}
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		up.close(last)
	}()
	// What came between the last source and this one was not announced to us.
	if err := s.ask(ctx); err != nil {
		return err
	}
	return s.listen(ctx, up)
}

func (s *session) listen(ctx context.Context, up *upstream) error {
	watch := time.NewTicker(s.feed.cfg().Watch)
	defer watch.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case raw, ok := <-up.results:
			if !ok {
				return up.ended()
			}
			h, err := decodeHeader(raw)
			if err != nil {
				return err
			}
			s.feed.learned(s.source.node.Tag, h)
			if err := s.heard(ctx, h); err != nil {
				return err
			}
		case <-watch.C:
			if err := s.watch(time.Now()); err != nil {
				return err
			}
		}
	}
}

// heard advances to an announced head. One of another branch that is not higher than the chain may be old: it was
// under way while the source was asked. So the source is asked again.
func (s *session) heard(ctx context.Context, h *header) error {
	chain := &s.feed.chain // see advance
	if head := chain.head(); head != nil && h.number <= head.number && !chain.has(h) {
		return s.ask(ctx)
	}
	return s.advance(ctx, h)
}

// poll asks for the head again and again.
func (s *session) poll(ctx context.Context) error {
	every := s.feed.cfg().Poll
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if next := s.feed.cfg().Poll; next != every {
			every = next
			tick.Reset(every)
		}
		if err := s.ask(ctx); err != nil {
			return err
		}
		if err := s.watch(time.Now()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// ask advances to what the source says is its head.
func (s *session) ask(ctx context.Context) error {
	h, err := s.feed.latest(ctx, s.source.node)
	if err != nil {
		return err
	}
	return s.advance(ctx, h)
}

// watch says why the source should be left.
func (s *session) watch(now time.Time) error {
	nodes := s.feed.ports.Nodes.Nodes()
	if err := s.picker.leave(s.source, nodes, now); err != nil {
		return err
	}
	var head uint64
	if h := s.feed.head(); h != nil {
		head = h.number
	}
	ahead := slices.ContainsFunc(nodes, func(n State) bool {
		return n.Healthy && n.Node.Tag != s.source.node.Tag && n.Height > head
	})
	switch {
	case !ahead:
		s.behind = time.Time{}
	case s.behind.IsZero():
		s.behind = now
	case now.Sub(s.behind) > s.feed.cfg().Silence:
		return errSilent
	}
	return nil
}

func (f *Feed) head() *header {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.chain.head()
}

// advance makes h, which the source says is its head, the head of the chain. Only the follower changes the chain,
// so it may look at it without the lock.
func (s *session) advance(ctx context.Context, h *header) error {
	f := s.feed
	s.picker.worked(s.source)
	head := f.chain.head()
	switch {
	case head == nil:
		f.restart(h)
		s.level = true
		return nil
	case f.chain.has(h):
		s.level = s.level || h.hash == head.hash
		return nil // an announcement again, or a node that is behind
	case !s.level && h.number < head.number:
		return nil
	}
	branch, err := s.connect(ctx, h)
	switch {
	case errors.Is(err, errTooFar):
		f.log.LogAttrs(ctx, slog.LevelError, "subscriptions to the chain ended: the gap is too large",
			slog.Uint64("have", head.number), slog.Uint64("head", h.number))
		f.restart(h)
	case err != nil:
		return err
	default:
		f.publish(branch)
	}
	s.level = true
	return nil
}

// connect is the headers that lead from the canonical chain to h, oldest first.
func (s *session) connect(ctx context.Context, h *header) ([]*header, error) {
	f := s.feed
	if h.number > f.chain.head().number+uint64(f.cfg().MaxGap) { //nolint:gosec // positive
		return nil, errTooFar
	}
	branch := []*header{h}
	for !f.chain.joins(h) {
		if len(branch) > f.cfg().MaxGap || f.chain.below(h) {
			return nil, errTooFar
		}
		parent, err := s.parent(ctx, h)
		if err != nil {
			return nil, fmt.Errorf("fill the gap before block %d: %w", h.number, err)
		}
		f.metrics.filled.Inc()
		branch = append(branch, parent)
		h = parent
	}
	slices.Reverse(branch)
	return branch, nil
}

// parent fetches the block before h: the source has it for certain, others if the source has just died.
func (s *session) parent(ctx context.Context, h *header) (p *header, err error) {
	for _, tag := range []rpcapi.Tag{s.source.node.Tag, 0, 0} {
		if p, err = s.feed.fetch(ctx, tag, h.number-1, h.parent); err == nil || ctx.Err() != nil {
			return p, err
		}
	}
	return nil, err
}
