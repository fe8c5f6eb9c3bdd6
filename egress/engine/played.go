package engine

import (
	"context"
	"fmt"
	"strconv"

	"millrace/egress/engine/chain"
	"millrace/egress/engine/compare"
	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
)

// maxListed bounds the divergences and built payloads that a summary lists.
const maxListed = 1000

// render is the body of a step.
func (r *Runner) render(ctx context.Context, step chain.Step) ([]byte, error) {
	if step.Own() {
		return r.courier.own(step), nil
	}
	call, err := r.bodies.call(ctx, step.Call.At)
	if err != nil {
		return nil, err
	}
	if step.Call.Class != engineapi.ClassForkchoice || r.reach.Play == PlayBuild {
		return call.Raw, nil
	}
	body, err := call.WithoutAttributes()
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", step.Call.At, err)
	}
	return body, nil
}

// note compares, counts and hands out one call.
func (r *Runner) note(ctx context.Context, step chain.Step, body []byte, a *reply, f fate) error {
	if ctx.Err() != nil {
		return fmt.Errorf("engine replay: %w", context.Cause(ctx))
	}
	if !step.Own() {
		r.sum.Sent++
	}
	p := r.played(step.Call, body, a)
	if step.Own() {
		p.Seq, p.Class = 0, compare.NotCompared
		return r.out(p)
	}
	primary := engineapi.Result{}
	if o := step.Call.Answer; o != nil {
		primary, p.Primary = o.Result, o.Duration
		primary.HTTPStatus = o.HTTPStatus
	}
	what := compare.Call{Block: step.Head, Attributes: step.Call.Forkchoice.Attributes}
	p.Class, p.Why = compare.Of(what, primary, a.result)
	r.sum.Classes[p.Class.String()]++
	r.times.add(step.Call.Method, a.took, p.Primary)
	if f == refused && step.Kind == chain.Payload {
		r.roots.Bad(step.Head, step.Call.Payload.Parent)
	}
	if p.Class.Divergent() {
		r.diverges(step, a, p, primary)
	}
	return r.out(p)
}

func (r *Runner) diverges(step chain.Step, a *reply, p Played, primary engineapi.Result) {
	root, ok := r.roots.Of(step.Head)
	if !ok {
		root = step.Head
	}
	if !r.roots.First(p.Class, root) || len(r.sum.Divergences) >= maxListed {
		return
	}
	r.sum.Divergences = append(r.sum.Divergences, Divergence{
		At: r.clock.Now(), Secondary: r.target.Name, Class: p.Class, Why: p.Why,
		Sequence: step.Call.At, ID: step.Call.ID.String(), Method: step.Call.Method,
		Block: step.Head, Number: step.Number, Root: root,
		PrimaryAnswer: recorded(primary), SecondaryAnswer: string(a.raw[:min(len(a.raw), maxEvidence)]),
		SecondaryVersion: version(r.identity.Version), Reproduce: reproduce(step.Call.At, r.target.Address),
	})
}

func (r *Runner) played(c chain.Call, body []byte, a *reply) Played {
	return Played{Pair: record.Pair{
		Seq: c.At, Time: a.sent, Target: r.target.Name, Method: c.Method, Request: body,
		HTTPStatus: a.result.HTTPStatus, Answer: a.raw, Micros: a.took.Microseconds(),
	}}
}

func (r *Runner) out(p Played) error {
	r.progress()
	if r.Out == nil {
		return nil
	}
	if err := r.Out(p); err != nil {
		return fmt.Errorf("write call %d: %w", p.Seq, err)
	}
	return nil
}

func (r *Runner) progress() {
	r.done++
	if r.Progress != nil {
		r.Progress(min(r.done, r.of), r.of)
	}
}

// built asks the client for the payload that it built beside the primary's.
func (r *Runner) built(ctx context.Context, c chain.Call) error {
	call, err := r.bodies.call(ctx, c.At)
	if err != nil {
		return err
	}
	id, known := r.payloads[call.PayloadID()]
	if !known {
		r.sum.Classes[compare.NotCompared.String()]++
		r.progress()
		return nil
	}
	body, err := call.WithParam(0, []byte(strconv.Quote(id)))
	if err != nil {
		return fmt.Errorf("entry %d: %w", c.At, err)
	}
	a := r.courier.call(ctx, body, r.cfg.PayloadTimeout)
	if a.err != nil {
		return fmt.Errorf("%w: getPayload at position %d: %w", ErrStopped, c.At, a.err)
	}
	r.sum.Sent++
	p := r.played(c, body, a)
	p.Class = compare.NotCompared
	ours := record.ParseBuilt(id, a.raw)
	switch {
	case c.Answer == nil || c.Answer.Built == nil:
	case ours == nil:
		p.Class, p.Why = compare.Info, "the client built nothing"
	default:
		p.Class = compare.OK
		d := compare.Built(c.Answer.Built, ours)
		p.Why = d.String()
		if len(r.sum.Built) < maxListed {
			r.sum.Built = append(r.sum.Built, BuiltPair{Number: ours.Number, Primary: *c.Answer.Built, Client: *ours, Difference: d})
		}
	}
	r.sum.Classes[p.Class.String()]++
	if c.Answer != nil {
		p.Primary = c.Answer.Duration
	}
	r.times.add(c.Method, a.took, p.Primary)
	return r.out(p)
}
