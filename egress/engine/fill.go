package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/go-json-experiment/json"

	"millrace/egress/engine/chain"
	"millrace/internal/engineapi"
)

const (
	// maxFill bounds the blocks that are fetched from the primary for one client, somewhat more than a day's.
	maxFill = 8192
	// fillBatch is how many bodies are asked for at a time.
	fillBatch = 8
)

var (
	errNobody  = errors.New("there is nobody to ask")
	errNoBlock = errors.New("the primary does not have a block")
	errLong    = errors.New("too many blocks are missing")
	errRefuses = errors.New("the client does not take a block")
)

// lacking is what the record lacks on the way to a client's goal, and the primary has.
type lacking struct {
	gap  *chain.Gap
	path []common.Hash // oldest first
	// again is when to try once more what could not be tried: the primary did not answer.
	again time.Time
}

// fillable looks whether the gap can be filled from the primary. It looks at all of the headers before the client
// is sent a block, so that it is not brought half of the way.
func (r *Replayer) fillable(ctx context.Context, gap *chain.Gap) (move, error) {
	r.lacking = lacking{gap: gap}
	if r.primary == nil || r.target.LiveOnly || r.target.Role == Primary {
		return move{}, errNobody
	}
	var path []common.Hash // newest first
	number := uint64(0)    // of the last one
	for h := gap.Parent; ; {
		block, err := r.primary.header(ctx, h)
		switch {
		case err != nil:
			return move{}, err
		// Neither a circle nor a way past genesis, whatever the primary says.
		case len(path) > 0 && uint64(block.Number)+1 != number || block.Number == 0:
			return move{}, fmt.Errorf("%w: numbers that do not descend", errPartial)
		case block.lacksRequests():
			return move{}, fmt.Errorf("block %d: %w", uint64(block.Number), errRequests)
		case len(path) == maxFill:
			return move{}, errLong
		}
		path, number = append(path, h), uint64(block.Number)
		held, err := r.holds(ctx, block.Parent, number-1)
		if err != nil {
			return r.lost(ctx, err), nil
		}
		if held {
			break
		}
		h = block.Parent
	}
	slices.Reverse(path)
	r.lacking.path = path
	return move{CatchUp, fmt.Sprintf("gap: %d blocks from the primary", len(path))}, nil
}

// holds says whether the client has executed a block, which it is asked only if it can have.
func (r *Replayer) holds(ctx context.Context, h common.Hash, number uint64) (bool, error) {
	if r.session.Holds(h) {
		return true, nil
	}
	if number > r.courier.at.number {
		return false, nil
	}
	there, err := r.courier.canonical(ctx, h)
	if there {
		r.session.Valid(h)
	}
	return there, err
}

// fill sends the client what the record lacks, with a forkchoice of our own now and then and at the end: then
// the record leads on from there.
func (r *Replayer) fill(ctx context.Context) move {
	path := r.lacking.path
	r.lacking.path = nil
	for since := 0; len(path) > 0; {
		batch := path[:min(fillBatch, len(path))]
		path = path[len(batch):]
		headers, bodies, err := r.primary.blocks(ctx, batch)
		if err != nil {
			return r.unfilled(ctx, err)
		}
		for i := range headers {
			r.courier.ids++
			step, body, err := rebuild(r.courier.ids, headers[i], bodies[i])
			if err != nil {
				return r.unfilled(ctx, err)
			}
			m, f, ok := r.put(ctx, step, body)
			if !ok {
				return m
			}
			// One that is only accepted is executed by a forkchoice that names it.
			if since++; f == accepted && since < r.cfg.Checkpoint && (len(path) > 0 || i < len(headers)-1) {
				continue
			}
			own := chain.Step{Kind: chain.Checkpoint, Call: r.form(step), Head: step.Head, Number: step.Number}
			if m, _, ok := r.put(ctx, own, r.courier.own(own)); !ok {
				return m
			}
			since = 0
		}
	}
	return move{Probe, "gap_filled"}
}

// put sends one step; when ok is false the state changes.
func (r *Replayer) put(ctx context.Context, step chain.Step, body []byte) (m move, f fate, ok bool) {
	answer, f := r.courier.apply(ctx, r.session, step, body)
	r.floor = r.session.Floor // nothing recorded was sent, but the session may know more
	if ctx.Err() != nil {
		return move{Probe, "stopped"}, f, false
	}
	r.met.open(r.courier.open())
	r.sees(head{r.session.Head, r.session.Number})
	switch f {
	case accepted:
		return m, f, true
	case forced:
		r.session.Took(step.Call.Payload)
		return m, f, true
	case refused, faulty, tooDeep, unsupported:
		return r.unfilled(ctx, fmt.Errorf("%w: %d, %s", errRefuses, step.Number, f)), f, false
	default:
		return r.interrupted(ctx, answer, f), f, false
	}
}

// unfilled leaves the client to its peers. A primary that did not answer is asked again after a while.
func (r *Replayer) unfilled(ctx context.Context, err error) move {
	if ctx.Err() != nil {
		return move{Probe, "stopped"}
	}
	gap := r.lacking.gap
	r.lacking = lacking{}
	for _, passing := range []error{errUnreachable, ErrOvertaken, ErrNoToken} {
		if errors.Is(err, passing) {
			r.lacking.again = time.Now().Add(r.cfg.Recheck)
		}
	}
	r.show(func(s *Status) { s.Gap = gap })
	return move{Follow, fmt.Sprintf("gap: %s; not filled: %s", gap, err)}
}

// refill says that it is time to try to fill the gap once more.
func (r *Replayer) refill() bool {
	return !r.lacking.again.IsZero() && !time.Now().Before(r.lacking.again)
}

// header is the client's header of a block.
func (c *courier) header(ctx context.Context, h common.Hash) (*header, error) {
	answer, err := c.ask(ctx, "eth_getBlockByHash", `["`+h.Hex()+`",false]`)
	if err != nil {
		return nil, err
	}
	result := engineapi.ResultOf(answer)
	if result == nil {
		return nil, fmt.Errorf("%w: %s", errNoBlock, h)
	}
	out, err := readHeader(result)
	if err == nil && out.Hash != h {
		err = errPartial
	}
	if err != nil {
		return nil, fmt.Errorf("header of %s: %w", h, err)
	}
	return out, nil
}

// blocks are the client's headers and bodies of some blocks.
func (c *courier) blocks(ctx context.Context, hashes []common.Hash) (headers []*header, bodies []*blockBody, err error) {
	version := 1 // two gives the access lists, which blocks have from Amsterdam on
	for _, h := range hashes {
		block, err := c.header(ctx, h)
		if err != nil {
			return nil, nil, err
		}
		if block.AccessList != nil {
			version = 2
		}
		headers = append(headers, block)
	}
	params, err := json.Marshal([][]common.Hash{hashes})
	if err != nil {
		return nil, nil, err
	}
	answer, err := c.ask(ctx, fmt.Sprintf("engine_getPayloadBodiesByHashV%d", version), string(params))
	if err != nil {
		return nil, nil, err
	}
	bodies, err = readBodies(engineapi.ResultOf(answer), len(hashes))
	return headers, bodies, err
}
