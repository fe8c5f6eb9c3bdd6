package engine

import (
	"context"
	"time"

	"millrace/egress/engine/chain"
	"millrace/internal/engineapi/record"
	"millrace/internal/retry"
)

// follow feeds the newest payload and forkchoice to a client that the record can't bring on, and
// leaves it to its peers, until its head is one that the record knows.
func (r *Replayer) follow(ctx context.Context) move {
	entry := r.courier.at.hash
	var fed record.ID
	refused := r.Status().Reason == forkchoiceRefused
	for ctx.Err() == nil {
		goal, payload, changed, ok := r.newest()
		if refused && goal.ID != r.goal.ID {
			return move{Probe, "another_goal"} // the record leads there
		}
		if !r.vouched && r.identified(ctx) {
			return move{Probe, "primary_known"}
		}
		if ok && goal.ID != fed && r.target.Role == Secondary && r.vouched && !refused {
			fed = goal.ID
			if m, ok := r.feed(ctx, goal, payload); !ok {
				return m
			}
		}
		r.decision()
		h, err := r.courier.latest(ctx)
		if err != nil {
			return r.lost(ctx, err)
		}
		r.sees(h)
		r.levels()
		known := false
		r.tape.look(func(x *chain.Index, _ chain.Time) { known = x.Known(h.hash) })
		if h.hash != entry && known || ok && h.hash == goal.Forkchoice.Head {
			r.stall = stall{}
			return move{Probe, "progress"}
		}
		if r.refill() {
			return move{Probe, "gap_again"}
		}
		r.idle(ctx, changed)
	}
	return move{Probe, "stopped"}
}

// identified says whether the primary's chain is known. What catching up sends is linked to a block that
// the client has; what Follow sends is not, so it needs that.
func (r *Replayer) identified(ctx context.Context) (known bool) {
	_, known = r.ports.Chain.Identity(ctx)
	return known
}

// newest is the goal and the payload of its head, if that is recorded.
func (r *Replayer) newest() (goal chain.Call, payload *chain.Call, changed <-chan struct{}, ok bool) {
	changed = r.tape.look(func(x *chain.Index, t chain.Time) {
		if goal, ok = x.Target(t); !ok {
			return
		}
		if c, there := x.Block(goal.Forkchoice.Head, t); there {
			payload = &c
		}
	})
	return goal, payload, changed, ok
}

// feed sends the newest payload and its forkchoice, whatever the client makes of them; not ok when
// the client can't be called.
func (r *Replayer) feed(ctx context.Context, goal chain.Call, payload *chain.Call) (m move, ok bool) {
	var steps []chain.Step
	number := uint64(0)
	if payload != nil {
		number = payload.Payload.Number
		steps = append(steps, chain.Step{Kind: chain.Payload, Call: *payload, Head: payload.Payload.Hash, Number: number})
	}
	if goal.ID.Compare(r.floor) >= 0 {
		steps = append(steps, chain.Step{Kind: chain.Forkchoice, Call: goal, Head: goal.Forkchoice.Head, Number: number})
	}
	for _, step := range steps {
		body, err := r.render(ctx, step, onPath)
		if err != nil {
			return r.unreadable(ctx, err), false
		}
		answer, f := r.courier.apply(ctx, r.session, step, body)
		r.floor = r.session.Floor // also of a call that was given up: it was sent
		if ctx.Err() != nil {
			return move{Probe, "stopped"}, false
		}
		r.compare(ctx, step, answer, f, onPath)
		switch f {
		case accepted, forced, stuck, refused, faulty, tooDeep:
		default:
			return r.interrupted(ctx, answer, f), false
		}
	}
	return move{}, true
}

// idle waits for a change of the record, at most until the head is read again.
func (r *Replayer) idle(ctx context.Context, changed <-chan struct{}) {
	retry.Pause(ctx, pauseFollow)
	timer := time.NewTimer(r.cfg.CheckEvery)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// diverged feeds the newest payload to a client that refuses a block on the way to the goal. What it
// refuses above that block is counted under it. It ends when the goal lies on another branch, or when
// the client changed its mind: another build, or no memory of the refusal after a restart.
func (r *Replayer) diverged(ctx context.Context) move {
	var fed record.ID
	for ctx.Err() == nil {
		goal, payload, changed, ok := r.newest()
		if ok && goal.ID != fed {
			fed = goal.ID
			if payload == nil || !r.blocked(goal) {
				return move{Probe, "another_branch"}
			}
			if m, ok := r.feedDiverged(ctx, *payload); !ok {
				return m
			}
		}
		r.levels()
		r.idle(ctx, changed)
		if h, err := r.courier.latest(ctx); err != nil {
			return r.lost(ctx, err)
		} else if r.sees(h); h.hash != r.session.Head {
			return move{Probe, "head_moved"}
		}
	}
	return move{Probe, "stopped"}
}

// blocked says whether the way to the goal leads through a block that the client refused.
func (r *Replayer) blocked(goal chain.Call) (blocked bool) {
	r.tape.look(func(x *chain.Index, t chain.Time) { _, blocked = x.Blocked(r.session, goal.Forkchoice.Head, t) })
	return blocked
}

func (r *Replayer) feedDiverged(ctx context.Context, c chain.Call) (m move, ok bool) {
	if r.session.Refused(c.Payload.Hash) {
		return move{}, true
	}
	m, f, ok := r.sendDiverged(ctx, c)
	if !ok || f != stuck {
		return m, ok
	}
	// It need not know that the newest block descends from the one it refused, so that one is asked about.
	var culprit chain.Call
	r.tape.look(func(x *chain.Index, t chain.Time) {
		if h, blocked := x.Blocked(r.session, c.Payload.Hash, t); blocked {
			culprit, ok = x.Block(h, t)
		}
	})
	if !ok || culprit.Method == "" {
		return move{Probe, "another_branch"}, false
	}
	if m, f, ok = r.sendDiverged(ctx, culprit); f == stuck {
		return changedItsMind(), false
	}
	return m, ok
}

func changedItsMind() move { return move{Probe, "changed_its_mind"} }

// sendDiverged sends one payload, and is not ok when the client is not diverged any more.
func (r *Replayer) sendDiverged(ctx context.Context, c chain.Call) (m move, f fate, ok bool) {
	step := chain.Step{Kind: chain.Payload, Call: c, Head: c.Payload.Hash, Number: c.Payload.Number}
	body, err := r.render(ctx, step, onPath)
	if err != nil {
		return r.unreadable(ctx, err), 0, false
	}
	answer, f := r.courier.apply(ctx, r.session, step, body)
	if ctx.Err() != nil {
		return move{Probe, "stopped"}, f, false
	}
	if f == refused {
		r.roots.Bad(step.Head, c.Payload.Parent)
	}
	r.compare(ctx, step, answer, f, onPath)
	switch f {
	case refused, faulty, stuck:
		return move{}, f, true
	case accepted, forced:
		return changedItsMind(), f, false
	default:
		return r.interrupted(ctx, answer, f), f, false
	}
}
