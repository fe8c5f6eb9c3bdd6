package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/go-json-experiment/json"

	"millrace/egress/engine/chain"
	"millrace/egress/engine/compare"
	"millrace/internal/engineapi"
	"millrace/internal/retry"
)

// headStateMethod is what stands for a method in the event about a head state: no call of the record diverges.
const headStateMethod = "head_state"

// look is what a primary showed of its head, and when on the local clock.
type look struct {
	state compare.HeadState
	at    time.Time
}

// maxLookAge is how old a look may be that a client is held against.
const maxLookAge = 10 * time.Second

// doubt is what the last samples of the head state found.
type doubt struct {
	why    string // of the last one that differed; empty after one that did not
	raised string // of the event that was published and still holds
}

// samples says whether the client's head state is compared with the primary's.
func (r *Replayer) samples() bool {
	return r.cfg.HeadStateEvery > 0 && r.target.Role == Secondary && r.ports.Primary != nil
}

// watchPrimary looks at the primary's head now and then while the client is at the head, until ctx ends. It has a
// goroutine and a courier of its own: a primary that hangs must not hold up the client.
func (r *Replayer) watchPrimary(ctx context.Context) error {
	c := newCourier(&r.cfg, &Target{Caller: r.ports.Primary, Role: Primary})
	for retry.Pause(ctx, r.cfg.HeadStateEvery) {
		if !r.isLive() {
			continue
		}
		at := time.Now()
		state, err := c.headState(ctx)
		if err != nil {
			r.log.LogAttrs(ctx, slog.LevelDebug, "engine primary's head state not known", slog.Any("error", err))
			continue
		}
		select { // the newest counts
		case <-r.looks:
		default:
		}
		r.looks <- look{state, at}
	}
	return nil
}

func (r *Replayer) isLive() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status.State == Live
}

// sample holds the client's head state against the primary's. It is called while the client has every call that is due.
// What differs has to differ in the next sample too: a forkchoice that moves the anchors alone may be under way.
func (r *Replayer) sample(ctx context.Context, p look) (m move, ok bool) {
	if p.state.Hash != r.session.Head || time.Since(p.at) > maxLookAge {
		r.met.headState(compare.NotCompared)
		return move{}, true
	}
	s, err := r.courier.headState(ctx)
	switch {
	case errors.Is(err, errPartial):
		r.met.headState(compare.Transient)
		return move{}, true
	case err != nil:
		return r.lost(ctx, err), false
	}
	class, why := compare.Heads(p.state, s)
	was := r.doubt.why
	switch {
	case class == compare.NotCompared:
	case class == compare.OK:
		r.doubt = doubt{}
	case why != was:
		r.doubt.why, class = why, compare.Transient
	case why != r.doubt.raised:
		r.doubt.raised = why
		r.headDiverges(ctx, class, why, p.state, s)
	}
	r.met.headState(class)
	return move{}, true
}

// headDiverges publishes what differs. The call that reproduces it is the forkchoice to that head.
func (r *Replayer) headDiverges(ctx context.Context, class compare.Class, why string, primary, secondary compare.HeadState) {
	theirs, _ := json.Marshal(primary) // numbers and hashes: it can't fail
	ours, _ := json.Marshal(secondary)
	var goal chain.Call
	r.tape.look(func(x *chain.Index, t chain.Time) { goal, _ = x.Target(t) })
	r.raise(ctx, &Divergence{
		Class: class, Why: why, Sequence: goal.At, ID: goal.ID.String(), Method: headStateMethod,
		Block: primary.Hash, Number: primary.Number, Root: primary.Hash, Confirmed: true,
		PrimaryAnswer: theirs, SecondaryAnswer: string(ours),
	})
}

// headState is what the client shows of its head. errPartial: its head moved meanwhile, or its answer is not whole.
func (c *courier) headState(ctx context.Context) (s compare.HeadState, err error) {
	latest, err := c.rooted(ctx)
	if err != nil {
		return s, err
	}
	if s.Safe, err = c.anchor(ctx, "safe"); err != nil {
		return s, err
	}
	if s.Finalized, err = c.anchor(ctx, "finalized"); err != nil {
		return s, err
	}
	again, err := c.rooted(ctx)
	if err != nil {
		return s, err
	}
	if again != latest {
		return s, fmt.Errorf("%w: its head moves", errPartial)
	}
	latest.Safe, latest.Finalized = s.Safe, s.Finalized
	return latest, nil
}

// rooted is the client's latest block with its roots.
func (c *courier) rooted(ctx context.Context) (s compare.HeadState, err error) {
	answer, err := c.ask(ctx, "eth_getBlockByNumber", `["latest",false]`)
	if err != nil {
		return s, err
	}
	var b struct {
		Number   *hexutil.Uint64 `json:"number"`
		Hash     *common.Hash    `json:"hash"`
		State    *common.Hash    `json:"stateRoot"`
		Receipts *common.Hash    `json:"receiptsRoot"`
	}
	if json.Unmarshal(engineapi.ResultOf(answer), &b) != nil || b.Number == nil || b.Hash == nil || b.State == nil || b.Receipts == nil {
		return s, fmt.Errorf("latest block: %w", errPartial)
	}
	return compare.HeadState{Number: uint64(*b.Number), Hash: *b.Hash, StateRoot: *b.State, ReceiptsRoot: *b.Receipts}, nil
}

// anchor is the client's safe or finalized block, zero without one: some answer null then, others an error.
func (c *courier) anchor(ctx context.Context, tag string) (common.Hash, error) {
	answer, err := c.ask(ctx, "eth_getBlockByNumber", `["`+tag+`",false]`)
	if err != nil {
		return common.Hash{}, err
	}
	_, h, _ := engineapi.BlockResult(answer)
	return h, nil
}
