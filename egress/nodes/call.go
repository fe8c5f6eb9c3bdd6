package nodes

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"millrace/egress/nodes/dispatch"
	"millrace/egress/nodes/health"
	"millrace/internal/retry"
	"millrace/internal/rpcapi"
	"millrace/internal/wire"
)

// againLeast and againMost bound the pause before a node is asked once more because there is no other.
const (
	againLeast = 10 * time.Millisecond
	againMost  = 200 * time.Millisecond
)

// result is how one try ended.
type result struct {
	answer  wire.Answer
	err     error // nil: answered; else what Call returns if nothing better comes
	outcome health.Outcome
	sent    bool // bytes of the call had left
	final   bool // another node would not do better
}

// trip is one call on its way through tries.
type trip struct {
	call   *rpcapi.Call
	want   dispatch.Want
	tried  [4]rpcapi.Tag // what want.Avoid is made of
	answer rpcapi.Answer
	said   *rpcapi.NodeError // the last node that said anything; nil: none did
}

// Call has a node answer c. Errors are those of rpcapi, and context.Cause(ctx) when the caller went, with the number of
// tries (rpcapi.TriesOf).
func (p *Pool) Call(ctx context.Context, c *rpcapi.Call) (*rpcapi.Answer, error) {
	t := trip{call: c, want: dispatch.Want{Class: c.Class, Client: c.Client, Node: c.Node, Received: c.Received, Position: dispatch.Back}}
	t.want.Avoid = t.tried[:0]
	if c.Block.Kind == rpcapi.BlockNumber {
		t.want.Height = c.Block.Number
	}
	for {
		place, err := p.places.Acquire(ctx, &t.want)
		if err != nil {
			return nil, rpcapi.Tried(err, t.answer.Tries)
		}
		t.enter(place)
		began := time.Now()
		r, tag := p.try(ctx, &t, place, began)
		t.answer.Served += time.Since(began)
		if r.err == nil {
			return t.answered(p, r, tag), nil
		}
		err = t.failed(p, r, tag)
		if !p.again(&t, r) {
			return nil, err
		}
		p.m.retries.Inc()
		if slices.Contains(t.want.Avoid, tag) && !retry.Pause(ctx, retry.Backoff(t.answer.Tries-1, againLeast, againMost)) {
			return nil, rpcapi.Tried(context.Cause(ctx), t.answer.Tries)
		}
		t.want.Avoid, t.want.Position = append(t.want.Avoid, tag), dispatch.Front
	}
}

// enter notes what was learned in the queue.
func (t *trip) enter(place dispatch.Place) {
	a := &t.answer
	if a.Tries == 0 {
		a.QueueStart = place.QueueStart
	}
	a.Tries++
	a.Queued += place.Queued
	a.QueueEnd, a.Height = place.QueueEnd, place.Height
}

func (t *trip) answered(p *Pool, r result, tag rpcapi.Tag) *rpcapi.Answer {
	a := t.answer
	a.Status, a.Body, a.Node = r.answer.Status, r.answer.Body, p.known(tag)
	return &a
}

// failed is what the caller hears if no other try follows: what a node said is worth more than that another one could
// not be reached after it.
func (t *trip) failed(p *Pool, r result, tag rpcapi.Tag) error {
	if e, ok := errors.AsType[*rpcapi.NodeError](r.err); ok {
		e.Node = p.known(tag)
		t.said = e
	}
	if t.call.Node != 0 && errors.Is(r.err, rpcapi.ErrUnreachable) && rpcapi.Lookup(t.call.Method).Safety == rpcapi.FilterUse {
		// The filter died with its node, or what it had to tell is lost: only a new one is of use.
		return rpcapi.Tried(rpcapi.ErrFilterNotFound, t.answer.Tries)
	}
	if t.said == nil || r.final {
		return rpcapi.Tried(r.err, t.answer.Tries)
	}
	t.said.Tries = t.answer.Tries
	return t.said
}

func (p *Pool) known(tag rpcapi.Tag) *rpcapi.Node {
	if n := (*p.nodes.Load())[tag]; n != nil {
		return n.Node
	}
	return nil
}

// again reports whether another try is allowed and of use.
func (p *Pool) again(t *trip, r result) bool {
	if r.final || t.answer.Tries >= p.cfg().MaxTries {
		return false
	}
	return !r.sent || Repeatable(t.call)
}

// Repeatable says whether a call may be sent once more although it may have been acted on. Where nobody read the call
// it is read now.
func Repeatable(c *rpcapi.Call) bool {
	safety := rpcapi.Lookup(c.Method).Safety
	if c.Method == "" {
		safety = rpcapi.Worst(c.Body)
	}
	switch safety {
	case rpcapi.Read, rpcapi.Transaction, rpcapi.FilterNew:
		return true
	default:
		return false
	}
}

// try makes the call at the place's node, which is released, and perhaps at a second one; it returns the node whose result
// it is.
func (p *Pool) try(ctx context.Context, t *trip, place dispatch.Place, began time.Time) (result, rpcapi.Tag) {
	if p.cfg().HedgeAfter > 0 && t.call.Method != "" && rpcapi.Lookup(t.call.Method).Safety == rpcapi.Read {
		return p.hedged(ctx, t, place, began)
	}
	return p.once(ctx, t.call, place, began), place.Tag
}

// once makes the call at one node and tells who watches the nodes.
func (p *Pool) once(ctx context.Context, c *rpcapi.Call, place dispatch.Place, began time.Time) result {
	n := (*p.nodes.Load())[place.Tag]
	if n == nil { // removed since
		p.places.Release(place)
		return result{err: rpcapi.ErrNoNode}
	}
	n.m.inFlight.Inc()
	a, sent, err := n.post(ctx, began.Add(p.cfg().Timeout), c.Body)
	took := time.Since(began)
	n.m.inFlight.Dec()
	p.places.Release(place)
	r := judge(ctx, a, sent, err)
	p.health.Observe(place.Tag, r.outcome, took)
	n.m.calls[r.outcome].Inc()
	return r
}

// judge decides what one try came to.
func judge(ctx context.Context, a wire.Answer, sent wire.Sent, err error) result {
	r := result{answer: a, sent: sent.Bytes > 0}
	switch {
	case err == nil && a.Status < http.StatusBadRequest:
		r.outcome = health.Answered
	case err == nil:
		r.err = &rpcapi.NodeError{Status: a.Status, Body: a.Body}
		switch {
		case a.Status == http.StatusTooManyRequests:
			r.outcome = health.Throttled
		case a.Status >= http.StatusInternalServerError:
			r.outcome = health.Failed
		default:
			r.outcome = health.Answered
		}
	case ctx.Err() != nil:
		r.err, r.outcome, r.final = context.Cause(ctx), health.Canceled, true
	case errors.Is(err, context.DeadlineExceeded):
		r.err, r.outcome = rpcapi.ErrNodeTimeout, health.TimedOut
	case errors.Is(err, wire.ErrTooLarge):
		r.err, r.outcome, r.final = rpcapi.ErrAnswerTooLarge, health.Answered, true
	default:
		r.err, r.outcome = rpcapi.ErrUnreachable, health.Refused
	}
	return r
}

func cmpLabel(a, b *rpcapi.Node) int { return strings.Compare(a.Label, b.Label) }
