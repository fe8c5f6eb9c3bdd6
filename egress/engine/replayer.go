package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"millrace/egress/engine/chain"
	"millrace/egress/engine/compare"
	"millrace/internal/engineapi/record"
	"millrace/internal/retry"
)

// Replayer keeps one client at the head.
type Replayer struct {
	cfg    Config
	target Target
	tape   *Tape
	ports  Ports
	log    *slog.Logger
	met    *targetMetrics

	mu     sync.Mutex
	status Status
	mode   Mode
	cancel context.CancelFunc // ends what is under way in the mode so far

	// looks holds the newest look at the primary's head; an older one that nobody took gives way.
	looks chan look

	// What follows belongs to Run's goroutine.
	courier  *courier
	bodies   bodies
	session  *chain.Session
	floor    record.ID // newest recorded forkchoice sent by all sessions
	pos      uint64    // position of the last finished call
	life     uint64    // of the log that pos belongs to
	steps    []chain.Step
	goal     chain.Call
	decided  record.ID // newest recorded call when the plan was made
	probed   time.Time // local
	stall    stall
	unfit    int  // read-backs in a row that found another head
	vouched  bool // the client's chain is known to be the primary's
	quiet    bool // the state shown stays while a halted client is asked again
	roots    *compare.Roots
	awaiting []comparison
	payloads map[string]string // payload ids: the primary's to the client's
	primary  *courier          // asks the primary for blocks; nil: it can't be asked
	lacking  lacking
	doubt    doubt
	saveNext time.Time
}

// New makes a replayer over a tape. It does nothing until Run.
func New(cfg Config, target Target, tape *Tape, ports Ports, reg *Metrics, logger *slog.Logger) (*Replayer, error) {
	if err := errors.Join(cfg.Validate(), target.Validate()); err != nil {
		return nil, fmt.Errorf("engine replayer: %w", err)
	}
	if target.Mode == 0 {
		target.Mode = ModeFollow
	}
	r := &Replayer{
		cfg: cfg, target: target, tape: tape, ports: ports, met: reg.of(target.Name),
		log:  logger.With(slog.String("target", target.Name)),
		mode: target.Mode, looks: make(chan look, 1), roots: compare.NewRoots(), payloads: map[string]string{},
		status: Status{Target: target.Name, Role: target.Role, Mode: target.Mode, State: Probe, Since: ports.Clock.Now()},
	}
	r.courier, r.bodies = newCourier(&r.cfg, &r.target), bodies{tape: tape}
	r.courier.observe = r.observed
	if ports.Primary != nil {
		r.primary = newCourier(&r.cfg, &Target{Caller: ports.Primary, Role: Primary})
	}
	return r, nil
}

// Metrics are the collectors that the replayers of a process share.
type Metrics struct{ *metrics }

// NewMetrics registers the collectors.
func NewMetrics(reg prometheus.Registerer) *Metrics { return &Metrics{newMetrics(reg)} }

// Status is what is known at the moment.
func (r *Replayer) Status() Status {
	r.levels()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// SetMode switches the mode; what is under way ends, and the client is asked for its head. To set the
// mode that holds already does the same: it is how an operator says that a client is well again.
func (r *Replayer) SetMode(m Mode) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mode = m
	r.status.Mode = m
	if r.cancel != nil {
		r.cancel()
	}
}

// Run replays until ctx ends.
func (r *Replayer) Run(ctx context.Context) error {
	defer r.met.forget()
	g, ctx := errgroup.WithContext(ctx)
	if r.ports.Modes != nil {
		g.Go(func() error { return r.watchMode(ctx) })
	}
	if r.samples() {
		g.Go(func() error { return r.watchPrimary(ctx) })
	}
	g.Go(func() error {
		r.load(ctx)
		for ctx.Err() == nil {
			r.drive(ctx)
		}
		return nil
	})
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("engine replayer %s: %w", r.target.Name, err)
	}
	return nil
}

// watchMode follows the operators' choice; a name that is not known is as good as none.
func (r *Replayer) watchMode(ctx context.Context) error {
	for {
		err := r.ports.Modes.Watch(ctx, r.target.Name, func(name string) {
			m := r.target.Mode
			if name != "" && m.UnmarshalText([]byte(name)) != nil {
				r.log.LogAttrs(ctx, slog.LevelWarn, "engine mode not known", slog.String("mode", name))
				return
			}
			r.mu.Lock()
			same := r.mode == m
			r.mu.Unlock()
			if !same || name != "" {
				r.SetMode(m)
			}
		})
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end was asked for
		}
		r.log.LogAttrs(ctx, slog.LevelWarn, "engine modes not readable", slog.Any("error", err))
		if !retry.Pause(ctx, time.Second) {
			return nil
		}
	}
}

// move is a change of state.
type move struct {
	to     State
	reason string
}

// drive runs in one mode, until it is switched or ctx ends.
func (r *Replayer) drive(ctx context.Context) {
	r.mu.Lock()
	mode := r.mode
	ctx, cancel := context.WithCancel(ctx)
	r.cancel = cancel
	r.mu.Unlock()
	defer cancel()
	r.stall, r.unfit, r.quiet = stall{}, 0, false
	switch mode {
	case ModeOff:
		r.enter(ctx, move{Off, ""})
		<-ctx.Done()
	case ModeObserve:
		r.enter(ctx, move{Observing, ""})
		r.watchHead(ctx)
	default:
		for at := (move{Probe, "start"}); ctx.Err() == nil; {
			r.enter(ctx, at)
			at = r.in(ctx, at.to)
		}
	}
}

// in runs one state to its end.
func (r *Replayer) in(ctx context.Context, s State) move {
	switch s {
	case CatchUp:
		return r.catchUp(ctx)
	case Live:
		if r.target.Role == Primary {
			return r.watch(ctx)
		}
		return r.live(ctx)
	case Follow:
		return r.follow(ctx)
	case Diverged:
		return r.diverged(ctx)
	case Halted, NeedsResync:
		return r.rest(ctx, s)
	default:
		return r.probe(ctx)
	}
}

// enter shows a state.
func (r *Replayer) enter(ctx context.Context, m move) {
	if r.quiet && m.to == Probe {
		return
	}
	r.quiet = false
	if r.target.LiveOnly && (m.to == Live || m.to == Follow) {
		m.to = LiveOnly
	}
	r.mu.Lock()
	was := r.status
	changed := was.State != m.to || was.Reason != m.reason
	if was.State != m.to {
		r.status.Since = r.ports.Clock.Now()
	}
	r.status.State, r.status.Reason = m.to, m.reason
	if m.to != Follow && m.to != LiveOnly {
		r.status.Gap = nil
	}
	r.mu.Unlock()
	r.met.state(m.to)
	if changed && ctx.Err() == nil {
		r.log.LogAttrs(ctx, levelOf(m.to, was.State), "engine client", slog.String("state", m.to.String()),
			slog.String("was", was.State.String()), slog.String("reason", m.reason))
	}
}

func levelOf(to, was State) slog.Level {
	switch {
	case to == Halted || to == NeedsResync || to == Diverged || to == Follow:
		return slog.LevelWarn
	case to != was && to != Probe && to != CatchUp:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// show changes the status.
func (r *Replayer) show(f func(s *Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.status)
}

// levels publishes how far behind the client is.
func (r *Replayer) levels() {
	var behind int
	var want, oldest chain.Call
	var wanted, waiting bool
	var number uint64
	var now time.Time
	r.mu.Lock()
	cursor := r.status.Cursor
	r.mu.Unlock()
	r.tape.look(func(x *chain.Index, t chain.Time) {
		now = t.Now
		if want, wanted = x.Target(t); wanted {
			number, _ = x.Number(want.Forkchoice.Head)
		}
		behind, oldest, waiting = x.Behind(cursor, t)
	})
	r.show(func(s *Status) {
		s.LagBlocks, s.Oldest = uint64(behind), 0 //nolint:gosec // a count
		if wanted {
			s.Want, s.WantNumber = want.Forkchoice.Head, number
			if number > s.Number && s.Number > 0 {
				s.LagBlocks = number - s.Number
			}
		}
		if waiting {
			s.Oldest = max(now.Sub(oldest.Received), 0)
		}
		s.BreakerOpen = r.met.breakerOpen()
		r.met.levels(s)
	})
}

// load reads where an earlier process was, for the account of what was left out.
func (r *Replayer) load(ctx context.Context) {
	if r.ports.Cursors == nil {
		return
	}
	at, err := r.ports.Cursors.Load(ctx, r.target.Name)
	if err != nil {
		r.log.LogAttrs(ctx, slog.LevelWarn, "engine cursor not readable", slog.Any("error", err))
		return
	}
	r.pos = at
	r.show(func(s *Status) { s.Cursor = at })
}

// rewind begins the account anew when the position is none of this log: it began anew, or the position
// is an earlier process's over another one.
func (r *Replayer) rewind() {
	life, end := r.tape.lives(), r.tape.next()-1
	if life == r.life && r.pos <= end {
		return
	}
	r.life, r.pos = life, 0
	r.show(func(s *Status) { s.Cursor = 0 })
}

// Bounds of saving a cursor: what is lost by not saving is a measure of lag, so it never holds up a
// replay for long.
const (
	saveTimeout = 500 * time.Millisecond
	savePause   = 5 * time.Second
)

// finish notes that everything up to a position is done.
func (r *Replayer) finish(ctx context.Context, at uint64) {
	if at <= r.pos {
		return
	}
	r.pos = at
	r.show(func(s *Status) { s.Cursor = at })
	if r.ports.Cursors == nil || time.Now().Before(r.saveNext) {
		return
	}
	saveCtx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	if err := r.ports.Cursors.Save(saveCtx, r.target.Name, at); err != nil && ctx.Err() == nil {
		r.saveNext = time.Now().Add(savePause)
		r.log.LogAttrs(ctx, slog.LevelWarn, "engine cursor not saved", slog.Any("error", err))
	}
}

// observed sees each reply to a step.
func (r *Replayer) observed(step chain.Step, a *reply) {
	r.met.sent(step.Kind, judge(step.Kind, a.result, a.err))
}
