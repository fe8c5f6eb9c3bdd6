package engine

import (
	"context"
	"errors"
	"log/slog"

	"github.com/ethereum/go-ethereum/common"

	"millrace/egress/engine/chain"
	"millrace/internal/engineapi"
	"millrace/internal/retry"
)

// How many payloads a client may lag behind and still get each call by itself: when it has caught up,
// and when it is live. Beyond, a plan is quicker.
const (
	arrivedWithin = 2
	fallenBehind  = 8
)

// catchUp sends the plan's steps.
func (r *Replayer) catchUp(ctx context.Context) move {
	if r.lacking.path != nil {
		return r.fill(ctx)
	}
	sent := make(map[uint64]bool, len(r.steps))
	for _, step := range r.steps {
		m, ok := r.take(ctx, step, onPath)
		switch {
		case !ok:
			return m
		case step.Kind == chain.Payload && !r.session.Holds(step.Head):
			return refusal(step.Head)
		case !step.Own():
			sent[step.Call.At] = true
		}
	}
	r.steps = nil
	h, err := r.courier.latest(ctx)
	if err != nil {
		return r.lost(ctx, err)
	}
	r.sees(h)
	if h.hash != r.session.Head {
		return r.unapplied(ctx, h)
	}
	r.unfit = 0
	r.account(sent)
	r.finish(ctx, r.goal.At)
	if h.hash != r.goal.Forkchoice.Head {
		return move{Follow, forkchoiceRefused}
	}
	behind := 0
	r.tape.look(func(x *chain.Index, t chain.Time) { behind, _, _ = x.Behind(r.pos, t) })
	if behind > arrivedWithin && r.target.Role == Secondary {
		return move{Probe, "behind"}
	}
	return move{Live, ""}
}

// forkchoiceRefused is the reason of a client that has every block and answers an error to the goal.
const forkchoiceRefused = "forkchoice_refused"

// unapplied is what follows when a client said VALID and its head is another one.
func (r *Replayer) unapplied(ctx context.Context, h head) move {
	if r.target.Role == Primary && !r.quietSince(ctx) {
		return move{Probe, "overtaken"} // a live call moved it
	}
	foreign := r.foreign(ctx, h)
	if r.unfit++; r.unfit < 2 {
		return move{Probe, "head_differs"}
	}
	if foreign {
		return move{NeedsResync, "foreign_writer"}
	}
	return move{NeedsResync, "head_not_applied"}
}

// quietSince says whether no call was recorded since the plan was made.
func (r *Replayer) quietSince(ctx context.Context) (quiet bool) {
	if r.tape.Sync(ctx) != nil {
		return false
	}
	r.tape.look(func(x *chain.Index, _ chain.Time) { quiet = x.Newest() == r.decided })
	return quiet
}

// foreign says whether somebody else set the client's head: it is none that this session knows.
func (r *Replayer) foreign(ctx context.Context, h head) bool {
	if r.session.Holds(h.hash) {
		return false
	}
	r.show(func(s *Status) { s.ForeignWriter = true })
	r.log.LogAttrs(ctx, slog.LevelWarn, "engine client has another writer",
		slog.String("head", h.hash.Hex()), slog.Uint64("number", h.number))
	return true
}

// account counts the calls that the plan left out.
func (r *Replayer) account(sent map[uint64]bool) {
	left := map[string]int{}
	r.tape.look(func(x *chain.Index, _ chain.Time) {
		for c := range x.Between(r.pos, r.goal.At) {
			if !sent[c.At] {
				left[c.Method]++
			}
		}
	})
	for method, n := range left {
		r.met.skipped(method, chain.Collapsed, n)
	}
}

// place is where a step stands.
type place uint8

const (
	// onPath: the steps that follow need it.
	onPath place = iota + 1
	// live: the call itself, of a client that follows.
	live
)

// take sends one step and acts on the answer; when ok is false the state changes.
func (r *Replayer) take(ctx context.Context, step chain.Step, at place) (m move, ok bool) {
	body, err := r.render(ctx, step, at)
	if err != nil {
		return r.unreadable(ctx, err), false
	}
	answer, f := r.courier.apply(ctx, r.session, step, body)
	r.floor = r.session.Floor // also of a call that was given up: it was sent
	if ctx.Err() != nil {
		return move{Probe, "stopped"}, false
	}
	if f == refused && !refusedByBoth(step) {
		answer, f = r.confirm(ctx, step, body, answer)
	}
	if step.Kind == chain.Payload && (f == refused || f == faulty) {
		r.roots.Bad(step.Head, step.Call.Payload.Parent)
	}
	r.met.open(r.courier.open())
	r.sees(head{r.session.Head, r.session.Number})
	r.compare(ctx, step, answer, f, at)
	switch f {
	case accepted:
		r.began(step, answer)
		return move{}, true
	case forced:
		if at == live {
			return move{}, true
		}
		r.session.Took(step.Call.Payload)
		own := chain.Step{Kind: chain.Checkpoint, Call: r.form(step), Head: step.Head, Number: step.Number}
		return r.take(ctx, own, onPath)
	case tooDeep:
		return move{}, true
	case refused, faulty:
		return r.rejected(step, f)
	default:
		return r.interrupted(ctx, answer, f), false
	}
}

// form is the call whose method and parameters a forkchoice of our own takes.
func (r *Replayer) form(step chain.Step) chain.Call {
	c := r.goal
	if c.Method == "" || c.Class != engineapi.ClassForkchoice {
		r.tape.look(func(x *chain.Index, t chain.Time) { c, _ = x.Target(t) })
	}
	c.ID = step.Call.ID
	c.Forkchoice.Head = common.Hash{}
	return c
}

func refusedByBoth(step chain.Step) bool {
	a := step.Call.Answer
	return a != nil && a.Result.Verdict() == engineapi.Invalid
}

// confirm sends a refused step once more: a refusal is grave, and clients have been wrong once.
func (r *Replayer) confirm(ctx context.Context, step chain.Step, body []byte, first *reply) (*reply, fate) {
	again, f := r.courier.apply(ctx, r.session, step, body)
	if f == refused || f == failing || f == overtaken {
		first.confirmed = f == refused
		return first, refused
	}
	return again, f
}

// rejected goes on behind a call that the client refuses for good. A payload alone changes nothing:
// it is the forkchoice that needs it which can't be followed.
func (r *Replayer) rejected(step chain.Step, f fate) (move, bool) {
	if step.Kind == chain.Payload || f == faulty {
		return move{}, true
	}
	r.session.Invalid(step.Head)
	return refusal(step.Head), false
}

func refusal(h common.Hash) move { return move{Diverged, "refused: " + h.Hex()} }

// interrupted is the state that follows an answer which is none.
func (r *Replayer) interrupted(ctx context.Context, answer *reply, f fate) move {
	switch f {
	case stuck:
		return r.stuck(ctx)
	case unsupported:
		return move{Halted, "unsupported: " + answer.result.Message}
	case unauthorized:
		return move{Halted, "auth: " + denial(answer)}
	case misfit:
		return move{Halted, "config: " + cause(answer).Error()}
	case overtaken:
		return move{Probe, "overtaken"}
	case tokenless:
		retry.Pause(ctx, pauseToken)
		return move{Probe, "no_token"}
	default:
		r.log.LogAttrs(ctx, slog.LevelDebug, "engine call failed", slog.Any("error", cause(answer)))
		return move{Probe, "unreachable"}
	}
}

// unreadable is what follows when a recorded call can't be read again.
func (r *Replayer) unreadable(ctx context.Context, err error) move {
	if errors.Is(err, ErrGone) {
		retry.Pause(ctx, pauseRecord)
		return move{Probe, "record_lost"} // the next plan knows what is left
	}
	r.log.LogAttrs(ctx, slog.LevelWarn, "engine record not readable", slog.Any("error", err))
	retry.Pause(ctx, pauseRecord)
	return move{Probe, "record_unavailable"}
}

// render is the body of a step.
func (r *Replayer) render(ctx context.Context, step chain.Step, at place) ([]byte, error) {
	if step.Own() {
		return r.courier.own(step), nil
	}
	call, err := r.bodies.call(ctx, step.Call.At)
	if err != nil {
		return nil, err
	}
	if step.Call.Class != engineapi.ClassForkchoice || at == live && r.shadows() {
		return call.Raw, nil
	}
	return call.WithoutAttributes()
}
