package engine

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"millrace/egress/engine/chain"
	"millrace/egress/engine/compare"
	"millrace/internal/engineapi"
)

// Divergence is the evidence that a secondary answered otherwise than the primary.
type Divergence struct {
	At        time.Time     `json:"at"`
	Secondary string        `json:"secondary"`
	Class     compare.Class `json:"class"`
	Why       string        `json:"why"`
	// Sequence is the request's position in the record, ID its place in the order of dispatch. Of a head state (the method
	// is head_state then) they are the last forkchoice's, and the answers are what each client shows.
	Sequence uint64      `json:"sequence"`
	ID       string      `json:"id"`
	Method   string      `json:"method"`
	Block    common.Hash `json:"block"`
	Number   uint64      `json:"number"`
	// Root is the first bad block among the block's ancestors, the block itself without one.
	Root        common.Hash `json:"root"`
	Descendants uint64      `json:"descendants"` // bad blocks above the root, so far
	// Confirmed says that the call was sent twice and judged alike.
	Confirmed bool `json:"confirmed"`
	// PrimaryAnswer is the primary's as far as the record keeps it; the other one is as it came.
	PrimaryAnswer    jsontext.Value `json:"primary_answer"`
	SecondaryAnswer  string         `json:"secondary_answer"`
	PrimaryVersion   jsontext.Value `json:"primary_version,omitempty"`
	SecondaryVersion jsontext.Value `json:"secondary_version,omitempty"`
	// Reproduce is the command that sends the call again.
	Reproduce string `json:"reproduce"`
}

// Bounds of what waits for the primary's outcome, and of an answer kept as evidence.
const (
	maxAwaiting = 256
	maxEvidence = 64 << 10
)

// publishTimeout is how long the replay waits for a divergence to be stored; it is in the log too.
const publishTimeout = 5 * time.Second

// comparison is an answer that waits for the primary's.
type comparison struct {
	step   chain.Step
	result engineapi.Result
	raw    []byte // bounded

	confirmed bool
	whole     bool // a forkchoice was sent with its attributes
}

// compare holds the client's answer against the primary's, later if that is not recorded yet.
func (r *Replayer) compare(ctx context.Context, step chain.Step, a *reply, f fate, at place) {
	if step.Own() || a.err != nil || r.target.Role == Primary || f == overtaken {
		return
	}
	c := comparison{
		step: step, result: a.result, raw: slices.Clone(a.raw[:min(len(a.raw), maxEvidence)]),
		confirmed: a.confirmed, whole: at == live && r.shadows(),
	}
	if step.Call.Answer == nil {
		if len(r.awaiting) < maxAwaiting {
			r.awaiting = append(r.awaiting, c)
			return
		}
	} else if at == live {
		r.met.latency(step.Call.Method, step.Call.Answer.Duration, a.took)
	}
	r.weigh(ctx, c)
}

// settle compares what waited and has its outcome now, or will have none.
func (r *Replayer) settle(ctx context.Context) {
	if len(r.awaiting) == 0 {
		return
	}
	var ready, rest []comparison
	r.tape.look(func(x *chain.Index, t chain.Time) {
		for _, c := range r.awaiting {
			call, ok := x.Call(c.step.Call.ID)
			if ok && call.Answer == nil && t.Now.Sub(call.Received) < t.Unknown {
				rest = append(rest, c)
				continue
			}
			c.step.Call.Answer = call.Answer
			ready = append(ready, c)
		}
	})
	r.awaiting = rest
	for _, c := range ready {
		r.weigh(ctx, c)
	}
}

// weigh counts one comparison and publishes what is worth it.
func (r *Replayer) weigh(ctx context.Context, c comparison) {
	call := c.step.Call
	primary := engineapi.Result{}
	if call.Answer != nil {
		primary = call.Answer.Result
		primary.HTTPStatus = call.Answer.HTTPStatus
	}
	class, why := compare.Of(compare.Call{
		Block: c.step.Head, Attributes: call.Forkchoice.Attributes && !c.whole,
	}, primary, c.result)
	r.met.compared(call.Method, class)
	if !class.Divergent() {
		return
	}
	root, ok := r.roots.Of(c.step.Head)
	if !ok {
		root = c.step.Head
	}
	if !r.roots.First(class, root) {
		return
	}
	r.publish(ctx, c, class, why, root, primary)
}

func (r *Replayer) publish(
	ctx context.Context, c comparison, class compare.Class, why string, root common.Hash, primary engineapi.Result,
) {
	call := c.step.Call
	r.raise(ctx, &Divergence{
		Class: class, Why: why, Sequence: call.At, ID: call.ID.String(), Method: call.Method,
		Block: c.step.Head, Number: c.step.Number, Root: root, Descendants: r.roots.Descendants(root),
		Confirmed:     c.confirmed,
		PrimaryAnswer: recorded(primary), SecondaryAnswer: string(c.raw),
	})
}

// raise counts, logs and publishes a divergence, with what is the same in all of them.
func (r *Replayer) raise(ctx context.Context, d *Divergence) {
	d.At, d.Secondary, d.Reproduce = r.ports.Clock.Now(), r.target.Name, reproduce(d.Sequence, r.target.Address)
	d.SecondaryVersion = version(r.Status().Version)
	if r.ports.Chain != nil {
		if id, ok := r.ports.Chain.Identity(ctx); ok {
			d.PrimaryVersion = version(id.Version)
		}
	}
	r.met.diverged(d.Class)
	r.log.LogAttrs(ctx, slog.LevelWarn, "engine client diverges", slog.String("class", d.Class.String()),
		slog.String("method", d.Method), slog.String("root", d.Root.Hex()), slog.Uint64("number", d.Number), slog.String("why", d.Why))
	if r.ports.Divergences == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	if err := r.ports.Divergences.Publish(ctx, r.target.Name, *d); err != nil {
		r.log.LogAttrs(ctx, slog.LevelError, "engine divergence not stored", slog.Any("error", err))
	}
}

// version is a client's raw entry of getClientVersionV1, nil without one.
func version(raw string) jsontext.Value {
	if v := jsontext.Value(raw); v.IsValid() {
		return v
	}
	return nil
}

// reproduce is the command that sends one recorded call to a client.
func reproduce(at uint64, address string) string {
	return fmt.Sprintf("millrace replay engine --mode verbatim --seq %d --to %s --jwt-secret FILE", at, address)
}

// recorded is an answer in the form of the specification, of what the record keeps of it.
func recorded(a engineapi.Result) jsontext.Value {
	type status struct {
		Status    engineapi.Status `json:"status"`
		Latest    *common.Hash     `json:"latestValidHash"`
		Error     string           `json:"validationError,omitempty"`
		PayloadID string           `json:"payloadId,omitempty"`
	}
	type fault struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	var v any = struct {
		Result status `json:"result"`
	}{status{a.Status, a.LatestValid, a.Validation, a.PayloadID}}
	if a.Code != 0 {
		v = struct {
			Error fault `json:"error"`
		}{fault{a.Code, a.Message}}
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return b
}
