package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/egress/engine/chain"
	"millrace/egress/engine/compare"
	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
	"millrace/internal/retry"
)

// Runner replays a closed range of the record into one client.
type Runner struct {
	cfg    Config
	reach  Range
	log    Log
	clock  Clock
	slog   *slog.Logger
	target Target
	// Out, if set, is told of every call made, in order; its error ends the replay.
	Out func(Played) error
	// Progress, if set, is told after each call how many of the range's calls are done.
	Progress func(done, of int)

	tape     *Tape
	bodies   bodies
	courier  *courier
	session  *chain.Session
	roots    *compare.Roots
	payloads map[string]string
	times    times
	sum      Summary
	identity Identity
	began    time.Time // local
	origin   time.Time // of the record
	form     chain.Call
	done, of int
}

// NewRunner makes a runner; it does nothing until Run.
func NewRunner(cfg Config, g Range, log Log, target Target, clock Clock, logger *slog.Logger) (*Runner, error) {
	if err := errors.Join(cfg.Validate(), g.Validate(), target.Validate()); err != nil {
		return nil, fmt.Errorf("engine replay: %w", err)
	}
	r := &Runner{
		cfg: cfg, reach: g, log: log, clock: clock, slog: logger, target: target,
		roots: compare.NewRoots(), payloads: map[string]string{}, times: times{},
		sum: Summary{Play: g.Play, Classes: map[string]int{}},
	}
	r.courier = newCourier(&r.cfg, &r.target)
	return r, nil
}

// Run checks the preconditions, replays the range and sums up. The summary holds for what was done
// also when there is an error.
func (r *Runner) Run(ctx context.Context) (Summary, error) {
	r.began = time.Now()
	err := r.run(ctx)
	r.sum.Elapsed = time.Since(r.began)
	r.sum.Latencies = r.times.latencies()
	if h, headErr := r.courier.latest(context.WithoutCancel(ctx)); headErr == nil && r.courier.away == 0 {
		r.sum.Head, r.sum.Number = h.hash, h.number
	}
	return r.sum, err
}

func (r *Runner) run(ctx context.Context) (err error) {
	if r.tape, err = loadRange(ctx, r.cfg, r.reach, r.log, r.clock, r.slog); err != nil {
		return err
	}
	r.bodies = bodies{tape: r.tape}
	calls, standings := r.tape.calls()
	eligible := calls[:0:0]
	for i, c := range calls {
		if standings[i] != chain.Eligible {
			continue
		}
		eligible = append(eligible, c)
		switch c.Class {
		case engineapi.ClassForkchoice:
			r.form = c
			r.sum.Recorded++
		case engineapi.ClassReplay:
			r.sum.Recorded++
		case engineapi.ClassPayload:
			if r.reach.Play == PlayBuild {
				r.sum.Recorded++
			}
		default:
		}
	}
	steps, err := r.prepare(ctx)
	if err != nil {
		return err
	}
	if len(eligible) > 0 {
		r.origin = eligible[0].Received
	}
	r.began = time.Now()
	switch r.reach.Play {
	case PlayPath:
		return r.path(ctx, steps)
	case PlayPayloads:
		return r.payloadsOnly(ctx, eligible)
	default:
		return r.verbatim(ctx, eligible)
	}
}

// prepare checks everything that must hold before the first write, and is the plan to the range's
// last forkchoice.
func (r *Runner) prepare(ctx context.Context) ([]chain.Step, error) {
	var err error
	if r.identity, err = r.courier.identity(ctx); err != nil {
		return nil, err
	}
	if want := r.reach.Identity; want != nil && (want.ChainID != r.identity.ChainID || want.Genesis != r.identity.Genesis) {
		return nil, fmt.Errorf("%w: chain id %d, genesis %s", ErrWrongChain, r.identity.ChainID, r.identity.Genesis)
	}
	h, err := r.courier.latest(ctx)
	if err != nil {
		return nil, err
	}
	r.session = chain.NewSession(h.hash, h.number, record.ID{})
	if r.reach.one() {
		return nil, nil
	}
	var goal chain.Call
	var found bool
	var steps []chain.Step
	r.tape.look(func(x *chain.Index, t chain.Time) {
		r.session.Adopt(x, t)
		if goal, found = x.Target(t); found {
			steps, err = x.Plan(r.session, goal, r.cfg.Checkpoint, t)
		}
	})
	if !found {
		return nil, ErrEmptyRange
	}
	r.sum.Want = goal.Forkchoice.Head
	if err != nil {
		if steps, err = r.base(ctx, goal, err); err != nil {
			return nil, err
		}
	}
	again, err := r.courier.latest(ctx)
	if err != nil {
		return nil, err
	}
	if again != h {
		return nil, fmt.Errorf("%w: from block %d to %d", ErrForeignWriter, h.number, again.number)
	}
	return steps, nil
}

// base tries the plan again when the client holds the block that the range builds on, below its head.
func (r *Runner) base(ctx context.Context, goal chain.Call, err error) (steps []chain.Step, _ error) {
	gap := (*chain.Gap)(nil)
	if !errors.As(err, &gap) {
		return nil, fmt.Errorf("%w: %w", ErrBase, err)
	}
	there, askErr := r.courier.canonical(ctx, gap.Parent)
	if askErr != nil {
		return nil, askErr
	}
	if !there {
		return nil, fmt.Errorf("%w: %w", ErrBase, err)
	}
	r.session.Valid(gap.Parent)
	r.tape.look(func(x *chain.Index, t chain.Time) { steps, err = x.Plan(r.session, goal, r.cfg.Checkpoint, t) })
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBase, err)
	}
	return steps, nil
}

// path sends a plan as a replayer does.
func (r *Runner) path(ctx context.Context, steps []chain.Step) error {
	r.of = len(steps)
	for _, step := range steps {
		due := step.Call.Received
		if step.Own() {
			due = r.origin // its call is the range's last
		}
		if err := r.pace(ctx, due); err != nil {
			return err
		}
		body, err := r.render(ctx, step)
		if err != nil {
			return err
		}
		answer, f := r.courier.apply(ctx, r.session, step, body)
		if err := r.note(ctx, step, body, answer, f); err != nil {
			return err
		}
		switch f {
		case accepted, tooDeep:
		case faulty:
			if step.Kind == chain.Payload {
				return stopped(step, answer, f)
			}
		case forced:
			r.session.Took(step.Call.Payload)
			if err := r.send(ctx, r.own(step)); err != nil {
				return err
			}
		default:
			return stopped(step, answer, f)
		}
	}
	r.sum.Classes[compare.NotCompared.String()] += max(r.sum.Recorded-r.sum.Sent, 0)
	return nil
}

func stopped(step chain.Step, a *reply, f fate) error {
	why := string(a.result.Status)
	if f != refused && f != stuck {
		why = cause(a).Error()
	}
	return fmt.Errorf("%w: %s at position %d, block %d: %s: %s", ErrStopped, step.Kind, step.Call.At, step.Number, f, why)
}

// verbatim sends every call as it is recorded, attributes apart.
func (r *Runner) verbatim(ctx context.Context, calls []chain.Call) error {
	r.of = len(calls)
	for _, c := range calls {
		if err := r.pace(ctx, c.Received); err != nil {
			return err
		}
		step := chain.Step{Kind: chain.Payload, Call: c, Head: c.Payload.Hash, Number: c.Payload.Number}
		switch {
		case c.Class == engineapi.ClassPayload && r.reach.Play == PlayBuild:
			if err := r.built(ctx, c); err != nil {
				return err
			}
			continue
		case c.Class == engineapi.ClassForkchoice:
			step.Kind, step.Head = chain.Forkchoice, c.Forkchoice.Head
		case c.Class != engineapi.ClassReplay:
			r.progress()
			continue
		}
		if err := r.send(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

// send makes one call for its answer, whatever it is, unless the client can't be called.
func (r *Runner) send(ctx context.Context, step chain.Step) error {
	body, err := r.render(ctx, step)
	if err != nil {
		return err
	}
	answer, f := r.courier.deliver(ctx, step, body)
	if err := r.note(ctx, step, body, answer, f); err != nil {
		return err
	}
	switch f {
	case failing, unauthorized, misfit, tokenless, overtaken:
		return stopped(step, answer, f)
	case accepted:
		if step.Kind == chain.Payload {
			r.session.Took(step.Call.Payload)
		} else if o := step.Call.Answer; o != nil && o.Result.PayloadID != "" && answer.result.PayloadID != "" {
			r.payloads[o.Result.PayloadID] = answer.result.PayloadID
		}
	default:
	}
	return nil
}

// payloadsOnly sends every payload once, and a forkchoice now and then so that the client keeps up.
func (r *Runner) payloadsOnly(ctx context.Context, calls []chain.Call) error {
	r.of = len(calls)
	seen, since := map[common.Hash]bool{}, 0
	for _, c := range calls {
		if c.Class != engineapi.ClassReplay || seen[c.Payload.Hash] {
			r.progress()
			continue
		}
		seen[c.Payload.Hash] = true
		if err := r.pace(ctx, c.Received); err != nil {
			return err
		}
		if err := r.send(ctx, chain.Step{Kind: chain.Payload, Call: c, Head: c.Payload.Hash, Number: c.Payload.Number}); err != nil {
			return err
		}
		if since++; since < r.cfg.Checkpoint || !r.session.Holds(c.Payload.Hash) {
			continue
		}
		since = 0
		if err := r.send(ctx, r.own(chain.Step{Head: c.Payload.Hash, Number: c.Payload.Number})); err != nil {
			return err
		}
	}
	if r.reach.one() {
		return nil
	}
	return r.send(ctx, chain.Step{Kind: chain.Forkchoice, Call: r.form, Head: r.form.Forkchoice.Head})
}

// own is a forkchoice of our own making to the block of a payload.
func (r *Runner) own(of chain.Step) chain.Step {
	form := r.form
	form.Forkchoice.Head = common.Hash{}
	return chain.Step{Kind: chain.Checkpoint, Call: form, Head: of.Head, Number: of.Number}
}

// pace waits for a call's turn.
func (r *Runner) pace(ctx context.Context, received time.Time) error {
	if r.reach.Rate > 0 {
		due := r.began.Add(time.Duration(float64(received.Sub(r.origin)) / r.reach.Rate))
		retry.Pause(ctx, time.Until(due))
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("engine replay: %w", context.Cause(ctx))
	}
	return nil
}
