package engine

import (
	"context"
	"log/slog"
	"strconv"

	"millrace/egress/engine/chain"
	"millrace/egress/engine/compare"
	"millrace/internal/engineapi/record"
)

// maxPayloads bounds the payload ids that are remembered; clients forget theirs sooner.
const maxPayloads = 64

// began notes which id the client gave to what the primary builds under another.
func (r *Replayer) began(step chain.Step, a *reply) {
	if step.Kind != chain.Forkchoice || !r.shadows() || a.result.PayloadID == "" || step.Call.Answer == nil {
		return
	}
	if id := step.Call.Answer.Result.PayloadID; id != "" {
		if len(r.payloads) >= maxPayloads {
			clear(r.payloads)
		}
		r.payloads[id] = a.result.PayloadID
	}
}

// built asks the client for what it built beside the primary, and compares.
func (r *Replayer) built(ctx context.Context, c chain.Call) (m move, ok bool) {
	call, err := r.bodies.call(ctx, c.At)
	if err != nil {
		return r.unreadable(ctx, err), false
	}
	asked := call.PayloadID()
	id, known := r.payloads[asked]
	if !known {
		r.met.skipped(c.Method, chain.Unconnected, 1)
		return move{}, true
	}
	body, err := call.WithParam(0, []byte(strconv.Quote(id)))
	if err != nil {
		r.met.skipped(c.Method, chain.Ignored, 1)
		return move{}, true
	}
	answer := r.courier.call(ctx, body, r.cfg.PayloadTimeout)
	if ctx.Err() != nil {
		return move{Probe, "stopped"}, false
	}
	if answer.err != nil {
		r.courier.fail()
		return move{Probe, "unreachable"}, false
	}
	r.compareBuilt(ctx, c, record.ParseBuilt(id, answer.raw))
	return move{}, true
}

func (r *Replayer) compareBuilt(ctx context.Context, c chain.Call, ours *record.Built) {
	switch {
	case c.Answer == nil || c.Answer.Built == nil:
		r.met.compared(c.Method, compare.NotCompared)
		return
	case ours == nil:
		r.met.compared(c.Method, compare.Info)
		return
	}
	d := compare.Built(c.Answer.Built, ours)
	r.met.compared(c.Method, compare.OK)
	r.met.shadow(c.Answer.Built, ours)
	r.log.LogAttrs(ctx, slog.LevelDebug, "engine client built", slog.Uint64("number", ours.Number),
		slog.String("difference", d.String()))
}
