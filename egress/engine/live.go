package engine

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"millrace/egress/engine/chain"
	"millrace/internal/engineapi"
)

// next is the call behind the cursor.
type next struct {
	call     chain.Call
	standing chain.Standing
	there    bool
	behind   int // payloads not sent
	due      time.Duration
	changed  <-chan struct{}
}

func (r *Replayer) next() (n next) {
	n.changed = r.tape.look(func(x *chain.Index, t chain.Time) {
		n.call, n.standing, n.there = x.Next(r.pos, t)
		n.behind, _, _ = x.Behind(r.pos, t)
		n.due = r.cfg.CheckEvery
		if n.there && n.standing == chain.Undecided {
			n.due = n.call.Due(t).Sub(t.Now)
		}
	})
	return n
}

// live sends each call as it is recorded.
func (r *Replayer) live(ctx context.Context) move {
	check := time.NewTicker(r.cfg.CheckEvery)
	defer check.Stop()
	for {
		r.settle(ctx)
		n := r.next()
		if r.tape.lives() != r.life {
			return move{Probe, "record_anew"}
		}
		if n.behind > fallenBehind {
			return move{Probe, "behind"}
		}
		if !n.there || n.standing == chain.Undecided {
			r.levels()
			m, ok := r.wait(ctx, n, check)
			if !ok {
				return m
			}
			continue
		}
		if m, ok := r.one(ctx, n.call, n.standing); !ok {
			return m
		}
		r.finish(ctx, n.call.At)
	}
}

// wait ends when there may be something to do, and reads the head back from time to time.
func (r *Replayer) wait(ctx context.Context, n next, check *time.Ticker) (m move, ok bool) {
	timer := time.NewTimer(max(n.due, time.Millisecond))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return move{Probe, "stopped"}, false
	case <-n.changed:
	case <-timer.C:
	case <-check.C:
		return r.readBack(ctx)
	case p := <-r.looks:
		return r.sample(ctx, p)
	}
	return move{}, true
}

// readBack compares the client's head with what it should be.
func (r *Replayer) readBack(ctx context.Context) (m move, ok bool) {
	h, err := r.courier.latest(ctx)
	if err != nil {
		return r.lost(ctx, err), false
	}
	r.sees(h)
	r.levels()
	if h.hash == r.session.Head {
		r.unfit = 0
		r.show(func(s *Status) { s.ForeignWriter = false })
		return move{}, true
	}
	if r.foreign(ctx, h) {
		return move{Probe, "foreign_writer"}, false
	}
	return move{Probe, "head_lost"}, false
}

// one sends one call, or says why not; ok is false when the state changes.
func (r *Replayer) one(ctx context.Context, c chain.Call, s chain.Standing) (m move, ok bool) {
	switch {
	case s == chain.Refused:
		r.met.skipped(c.Method, chain.NotEligible, 1)
		return move{}, true
	case c.Class == engineapi.ClassPayload && r.shadows() && !matches(r.target.Skip, c.Method):
		return r.built(ctx, c)
	case c.Class == engineapi.ClassPayload || c.Class == engineapi.ClassRead || c.Class == engineapi.ClassLatest:
		return r.also(ctx, c)
	}
	var steps []chain.Step
	var reason chain.Reason
	var err error
	r.tape.look(func(x *chain.Index, t chain.Time) {
		steps, reason, err = x.Live(r.session, c, r.cfg.Checkpoint, t)
	})
	if blocked := (*chain.BlockedError)(nil); errors.As(err, &blocked) {
		return refusal(blocked.Hash), false
	}
	if err != nil {
		return move{Probe, "unconnected"}, false
	}
	if reason != 0 {
		r.met.skipped(c.Method, reason, 1)
		return move{}, true
	}
	r.met.late(r.ports.Clock.Now().Sub(c.Received))
	for i, step := range steps {
		at := onPath
		if i == len(steps)-1 {
			at = live
		}
		if m, ok = r.take(ctx, step, at); !ok {
			return m, false
		}
		if at == onPath && step.Kind == chain.Payload && !r.session.Holds(step.Head) {
			r.met.skipped(c.Method, chain.Rejected, 1)
			if c.Class == engineapi.ClassForkchoice {
				return refusal(step.Head), false
			}
			break
		}
	}
	return move{}, true
}

// also sends a call that only this client's configuration asks for; its answer is nobody's concern.
func (r *Replayer) also(ctx context.Context, c chain.Call) (m move, ok bool) {
	// getPayload's ids are each client's own, so it is no matter of taste.
	if c.Class == engineapi.ClassPayload || !matches(r.target.Also, c.Method) || matches(r.target.Skip, c.Method) {
		return move{}, true
	}
	call, err := r.bodies.call(ctx, c.At)
	if err != nil {
		return r.unreadable(ctx, err), false
	}
	if a := r.courier.call(ctx, call.Raw, r.cfg.ProbeTimeout); a.err != nil {
		r.log.LogAttrs(ctx, slog.LevelDebug, "engine call besides failed", slog.Any("error", a.err))
	}
	return move{}, true
}

// shadows says whether the client also builds.
func (r *Replayer) shadows() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mode == ModeShadowBuild && r.target.Role == Secondary
}

// watch waits for an outage of the primary: a call without an answer, a SYNCING for which something
// must be missing, or another head than the last forkchoice's.
func (r *Replayer) watch(ctx context.Context) move {
	check := time.NewTicker(r.cfg.CheckEvery)
	defer check.Stop()
	for {
		n := r.next()
		if r.tape.lives() != r.life {
			return move{Probe, "record_anew"}
		}
		if n.there && n.call.Answer != nil {
			r.finish(ctx, n.call.At)
			if r.alarming(n.call) {
				return move{Probe, "outage"}
			}
			continue
		}
		if n.there {
			r.tape.look(func(_ *chain.Index, t chain.Time) {
				n.due = n.call.Received.Add(t.Unknown).Sub(t.Now)
			})
			if n.due <= 0 {
				r.finish(ctx, n.call.At)
				return move{Probe, "outage"}
			}
		}
		r.levels()
		timer := time.NewTimer(max(n.due, time.Millisecond))
		select {
		case <-ctx.Done():
			timer.Stop()
			return move{Probe, "stopped"}
		case <-n.changed:
		case <-timer.C:
		case <-check.C:
			if m, ok := r.checkPrimary(ctx); !ok {
				timer.Stop()
				return m
			}
		}
		timer.Stop()
	}
}

// alarming says whether the primary's answer shows that it lacks something.
func (r *Replayer) alarming(c chain.Call) bool {
	if c.Class != engineapi.ClassReplay && c.Class != engineapi.ClassForkchoice {
		return false
	}
	if c.Unanswered() {
		return true
	}
	result := c.Answer.Result
	return result.OK() && result.Verdict() == engineapi.Undetermined && result.Status != ""
}

// checkPrimary reads the primary's head, and is not ok when it is not where the last forkchoice wants
// it though no call is under way.
func (r *Replayer) checkPrimary(ctx context.Context) (m move, ok bool) {
	r.decision()
	h, err := r.courier.latest(ctx)
	if errors.Is(err, ErrOvertaken) {
		return move{}, true // a live call is under way, its outcome will say
	}
	if err != nil {
		return r.lost(ctx, err), false
	}
	r.sees(h)
	fits, ahead := true, r.Status().Reason == aheadOfRecord
	var goal chain.Call
	r.tape.look(func(x *chain.Index, t chain.Time) {
		var found bool
		goal, found = x.Target(t)
		ahead = ahead && found && goal.Forkchoice.Head != h.hash
		fits = !found || goal.Forkchoice.Head == h.hash || x.Underway(goal, t) || !x.Known(goal.Forkchoice.Head)
	})
	if !fits && ahead {
		if fits, err = r.courier.canonical(ctx, goal.Forkchoice.Head); errors.Is(err, ErrOvertaken) {
			return move{}, true
		} else if err != nil {
			return r.lost(ctx, err), false
		}
	}
	if !fits {
		return move{Probe, "head_differs"}, false
	}
	if !ahead && r.Status().Reason == aheadOfRecord {
		r.enter(ctx, move{Live, ""})
	}
	r.levels()
	return move{}, true
}
