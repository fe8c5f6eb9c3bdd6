package engine

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/egress/engine/chain"
	"millrace/internal/engineapi/record"
	"millrace/internal/retry"
)

// Pauses between two attempts at something that is not the client's fault.
const (
	pauseRecord = 250 * time.Millisecond
	pauseToken  = time.Second
	pauseLive   = 20 * time.Millisecond
	// pauseProbe is the shortest time between two probes, whatever goes wrong.
	pauseProbe = 20 * time.Millisecond
	// pauseFollow is the shortest time between two looks at a client that others have to bring on.
	pauseFollow = time.Second
)

// stall measures how long a client makes no progress.
type stall struct {
	at     head
	since  time.Time
	probes int
}

// probe asks who and where the client is and decides what it needs.
func (r *Replayer) probe(ctx context.Context) move {
	retry.Pause(ctx, time.Until(r.probed.Add(pauseProbe)))
	r.probed = time.Now()
	r.decision() // what the client is asked before anything is decided is not overtaken
	if m, ok := r.identify(ctx); !ok {
		return m
	}
	// The order matters: what is decided below must know every call that went out before it.
	newest := r.decision()
	if err := r.tape.Sync(ctx); err != nil {
		r.log.LogAttrs(ctx, slog.LevelWarn, "engine record not readable", slog.Any("error", err))
		retry.Pause(ctx, pauseRecord)
		return move{Probe, "record_unavailable"}
	}
	r.rewind()
	if !r.recorded(newest) {
		retry.Pause(ctx, pauseRecord)
		return move{Probe, "record_behind"}
	}
	if m, ok := r.capable(ctx); !ok {
		return m
	}
	h, err := r.courier.latest(ctx)
	if err != nil {
		return r.lost(ctx, err)
	}
	r.sees(h)
	if h != r.stall.at {
		r.stall = stall{at: h}
	}
	return r.decide(ctx, h)
}

// decision begins a decision about the primary.
func (r *Replayer) decision() record.ID {
	if d, ok := r.target.Caller.(Decider); ok {
		return d.Decide()
	}
	return record.ID{}
}

// recorded says whether the tape has the call.
func (r *Replayer) recorded(id record.ID) (ok bool) {
	r.tape.look(func(x *chain.Index, _ chain.Time) {
		r.decided = x.Newest()
		ok = r.decided.Compare(id) >= 0
	})
	return ok
}

func (r *Replayer) sees(h head) {
	r.show(func(s *Status) { s.Head, s.Number = h.hash, h.number })
}

// lost is what follows a question without an answer.
func (r *Replayer) lost(ctx context.Context, err error) move {
	r.met.open(r.courier.open())
	switch {
	case ctx.Err() != nil:
		return move{Probe, "stopped"}
	case errors.Is(err, ErrNoToken):
		retry.Pause(ctx, pauseToken)
		return move{Probe, "no_token"}
	case errors.Is(err, ErrOvertaken):
		retry.Pause(ctx, pauseLive)
		return move{Probe, "overtaken"}
	case errors.Is(err, errUnauthorized):
		return move{Halted, "auth: " + err.Error()}
	case errors.Is(err, errMisfit):
		return move{Halted, "config: " + err.Error()}
	}
	r.log.LogAttrs(ctx, slog.LevelDebug, "engine client unreachable", slog.Any("error", err))
	return move{Probe, "unreachable"}
}

// identify makes sure that the client is of the primary's chain. Its first question is what an open
// breaker lets through.
func (r *Replayer) identify(ctx context.Context) (m move, ok bool) {
	id, err := r.courier.identity(ctx)
	if err != nil {
		return r.lost(ctx, err), false
	}
	r.met.open(false)
	r.show(func(s *Status) { s.Version = id.Version })
	r.vouched = true
	if r.ports.Chain != nil && r.target.Role != Primary {
		want, known := r.ports.Chain.Identity(ctx)
		r.vouched = known
		if known && (want.ChainID != id.ChainID || want.Genesis != id.Genesis) {
			return move{Halted, "wrong_chain"}, false
		}
	}
	return move{}, true
}

// capable makes sure that the client knows the methods in use.
func (r *Replayer) capable(ctx context.Context) (m move, ok bool) {
	names, err := r.courier.capabilities(ctx, r.ourCapabilities(ctx))
	if err != nil {
		return r.lost(ctx, err), false
	}
	if missing := r.missing(names); len(missing) > 0 {
		return move{Halted, "unsupported: " + strings.Join(missing, ", ")}, false
	}
	return move{}, true
}

func (r *Replayer) ourCapabilities(ctx context.Context) string {
	var c chain.Call
	var ok bool
	r.tape.look(func(x *chain.Index, t chain.Time) { c, ok = x.Capabilities(t) })
	if ok {
		if call, err := r.bodies.call(ctx, c.At); err == nil && call.Params != nil {
			return string(call.Params)
		}
	}
	return ownCapabilities()
}

// missing are the methods in the last calls of the record that the client does not name.
func (r *Replayer) missing(names []string) (missing []string) {
	if len(names) == 0 {
		return nil
	}
	var used []string
	r.tape.look(func(x *chain.Index, t chain.Time) { used = x.Methods(t) })
	return slices.DeleteFunc(used, func(m string) bool { return slices.Contains(names, m) })
}

// decide plans from the client's head to the last forkchoice.
func (r *Replayer) decide(ctx context.Context, h head) move {
	r.session = chain.NewSession(h.hash, h.number, r.floor)
	r.session.Shadow = r.shadows()
	var goal chain.Call
	var found, quiet bool
	var err error
	r.tape.look(func(x *chain.Index, t chain.Time) {
		r.session.Adopt(x, t)
		if goal, found = x.Target(t); found {
			r.steps, err = x.Plan(r.session, goal, r.checkpoint(), t)
			quiet = r.target.Role == Primary && r.inOrder(x, goal, h, t)
		}
	})
	switch {
	case !found:
		return move{Live, "no_forkchoice_yet"}
	case quiet, goal.ID.Compare(r.floor) < 0 && h.hash == goal.Forkchoice.Head:
		r.there(ctx, goal)
		return move{Live, ""}
	case err != nil:
		return r.unconnected(ctx, goal, err)
	}
	r.goal = goal
	if r.target.LiveOnly && len(r.steps) > fallenBehind {
		return move{Follow, "no_secret"}
	}
	r.unsay(goal)
	return move{CatchUp, ""}
}

// there notes that the client stands where the goal wants it.
func (r *Replayer) there(ctx context.Context, goal chain.Call) {
	r.goal = goal
	at := goal.At
	if goal.Answer == nil {
		at-- // its outcome is still to be watched
	}
	r.finish(ctx, at)
}

// unsay replaces the plan's end when a newer forkchoice was sent already, which the primary turned
// out to have refused: the goal's head is right, its call would be out of order.
func (r *Replayer) unsay(goal chain.Call) {
	if goal.ID.Compare(r.floor) >= 0 {
		return
	}
	last := &r.steps[len(r.steps)-1]
	goal.Forkchoice.Head = common.Hash{}
	*last = chain.Step{Kind: chain.Checkpoint, Call: goal, Head: last.Head, Number: last.Number}
}

// checkpoint is how many payloads the next plan sends between two forkchoices. A client that was killed
// while it was caught up may know blocks whose state it lost: it answers VALID to them and SYNCING to the next
// one. A forkchoice to such a block has it executed, so after a SYNCING every block gets one.
func (r *Replayer) checkpoint() int {
	if r.stall.probes > 0 {
		return 1
	}
	return r.cfg.Checkpoint
}

// inOrder says whether the primary needs nothing from us: it is where the last forkchoice wants it,
// or further, or a live call is under way that will say.
func (r *Replayer) inOrder(x *chain.Index, goal chain.Call, h head, t chain.Time) bool {
	switch {
	case h.hash == goal.Forkchoice.Head && !goal.Unanswered():
		return true
	case x.Underway(goal, t):
		return true
	}
	return x.Below(goal.Forkchoice.Head, r.session, t)
}

// aheadOfRecord is the reason of a primary that extends the goal by blocks which the record lacks.
const aheadOfRecord = "ahead_of_record"

// unconnected is what follows when the record does not lead from the client's head to the goal. The
// client may hold the goal, or the missing block, all the same, below a head that the record does not
// know. A primary that holds the goal is never taken back to it.
func (r *Replayer) unconnected(ctx context.Context, goal chain.Call, err error) move {
	gap := (*chain.Gap)(nil)
	if !errors.As(err, &gap) {
		return move{Diverged, "refused"}
	}
	held := goal.Forkchoice.Head
	there, err := r.courier.canonical(ctx, held)
	if err == nil && there && r.target.Role == Primary {
		r.there(ctx, goal)
		return move{Live, aheadOfRecord}
	}
	if err == nil && !there {
		held = gap.Parent
		there, err = r.courier.canonical(ctx, held)
	}
	if err != nil {
		return r.lost(ctx, err)
	}
	if there {
		r.session.Valid(held)
		r.tape.look(func(x *chain.Index, t chain.Time) {
			r.steps, err = x.Plan(r.session, goal, r.checkpoint(), t)
		})
		if err == nil {
			r.goal = goal
			r.unsay(goal)
			return move{CatchUp, ""}
		}
	}
	r.goal = goal
	m, err := r.fillable(ctx, gap)
	if err != nil {
		return r.unfilled(ctx, err)
	}
	return m
}

// stuck is what follows a SYNCING: the client is asked again, and given up when that does not help.
func (r *Replayer) stuck(ctx context.Context) move {
	now := time.Now()
	if r.stall.probes == 0 {
		r.stall.since = now
	}
	r.stall.probes++
	if r.stall.probes < r.cfg.StallProbes || now.Sub(r.stall.since) < r.cfg.StallTime {
		wait := min(r.cfg.RetryMin<<min(r.stall.probes, 12), r.cfg.RetryMax)
		retry.Pause(ctx, wait/2+rand.N(wait/2+1)) //nolint:gosec // jitter
		return move{Probe, "syncing"}
	}
	syncing, err := r.courier.syncing(ctx)
	switch {
	case err != nil:
		return r.lost(ctx, err)
	case syncing:
		return move{Follow, "syncing"}
	}
	return move{NeedsResync, "syncing"}
}

// rest waits while a client can't be helped. A halted one is asked again; one that needs a resync
// when it was away, so may be another process over other data, or when its head moved.
func (r *Replayer) rest(ctx context.Context, s State) move {
	away := r.courier.away
	entry := r.courier.at.hash
	for retry.Pause(ctx, r.cfg.Recheck) {
		if s == Halted {
			r.quiet = true
			return move{Probe, "recheck"}
		}
		r.decision()
		h, err := r.courier.latest(ctx)
		if err != nil {
			r.met.open(r.courier.open())
			continue
		}
		r.levels()
		if r.courier.away != away || h.hash != entry {
			r.stall, r.unfit = stall{}, 0
			return move{Probe, "changed"}
		}
	}
	return move{Probe, "stopped"}
}

// watchHead is the mode that only reads.
func (r *Replayer) watchHead(ctx context.Context) {
	for {
		r.decision()
		if h, err := r.courier.latest(ctx); err == nil {
			r.sees(h)
			r.arrivedAt(ctx, h.hash)
		}
		r.met.open(r.courier.open())
		r.levels()
		if !retry.Pause(ctx, r.cfg.CheckEvery) {
			return
		}
	}
}

// arrivedAt moves the cursor of a client that is brought on by others to the forkchoice it stands at.
func (r *Replayer) arrivedAt(ctx context.Context, h common.Hash) {
	var goal chain.Call
	var ok bool
	r.tape.look(func(x *chain.Index, t chain.Time) { goal, ok = x.Target(t) })
	if ok && goal.Forkchoice.Head == h {
		r.finish(ctx, goal.At)
	}
}
