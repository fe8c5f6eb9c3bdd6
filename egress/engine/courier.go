package engine

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"millrace/egress/engine/chain"
	"millrace/internal/engineapi"
	"millrace/internal/retry"
)

// reply is what came back for one request.
type reply struct {
	sent   time.Time // local clock
	took   time.Duration
	raw    []byte
	result engineapi.Result
	date   time.Time // the client's clock, zero when it did not say
	err    error
	// confirmed says that the call was sent again and judged alike.
	confirmed bool
}

// courier makes the calls to one client, one at a time, spaced by its breaker.
type courier struct {
	cfg            *Config
	send, question requester
	breaker        breaker
	// observe sees every reply to a step, before it is judged.
	observe func(step chain.Step, r *reply)

	notBefore time.Time
	// away counts the failures to reach the client: a changed number means that it may be another
	// process now.
	away uint64
	// at is the head that was last read. What a client answers to forkchoices is no measure of where it
	// is: some say VALID and do not apply them.
	at  head
	ids uint64
}

// requester makes one request, see Caller.
type requester func(ctx context.Context, body []byte) (int, []byte, time.Time, error)

func newCourier(cfg *Config, t *Target) *courier {
	question := t.Caller.Call
	if a, ok := t.Caller.(Asker); ok {
		question = a.Ask
	}
	return &courier{
		cfg: cfg, send: t.Caller.Call, question: question, breaker: newBreaker(cfg, t.Role),
		observe: func(chain.Step, *reply) {},
	}
}

// call makes one request, not before the breaker's wait is over.
func (c *courier) call(ctx context.Context, body []byte, timeout time.Duration) *reply {
	return c.exchange(ctx, c.send, body, timeout)
}

func (c *courier) exchange(ctx context.Context, to requester, body []byte, timeout time.Duration) *reply {
	if !retry.Pause(ctx, time.Until(c.notBefore)) {
		return &reply{err: context.Cause(ctx)}
	}
	callCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r := &reply{sent: time.Now()}
	var status int
	status, r.raw, r.date, r.err = to(callCtx, body)
	r.took = time.Since(r.sent)
	if r.err == nil {
		r.result = engineapi.ParseResult(status, r.raw)
	}
	return r
}

// fail notes that the client failed a call.
func (c *courier) fail() {
	c.away++
	now := time.Now()
	c.notBefore = now.Add(c.breaker.fail(now))
}

// open says whether the client may only be probed.
func (c *courier) open() bool { return c.breaker.open(time.Now()) }

// deliver sends a body until there is an answer to act on, or the breaker opens: then the fate is
// failing. A refused token is minted again once.
func (c *courier) deliver(ctx context.Context, step chain.Step, body []byte) (*reply, fate) {
	timeout := c.cfg.ForkchoiceTimeout
	if step.Kind == chain.Payload {
		timeout = c.cfg.PayloadTimeout
	}
	for denied := 0; ; {
		r := c.call(ctx, body, timeout)
		if ctx.Err() != nil {
			return r, failing
		}
		c.observe(step, r)
		f := judge(step.Kind, r.result, r.err)
		switch f {
		case unauthorized:
			if denied++; denied > 1 {
				return r, f
			}
		case failing:
			c.fail()
			if c.open() {
				return r, f
			}
		case overtaken, tokenless:
			return r, f
		default:
			c.breaker.succeed()
			return r, f
		}
	}
}

// apply sends a step and notes in the session what became of it.
func (c *courier) apply(ctx context.Context, s *chain.Session, step chain.Step, body []byte) (*reply, fate) {
	if step.Kind == chain.Payload {
		return c.payload(ctx, s, step, body)
	}
	if !step.Own() {
		s.Sent(step.Call.ID)
	}
	r, f := c.deliver(ctx, step, body)
	if f == anchorless {
		r, f = c.anchorless(ctx, s, step, body, r)
	}
	if f == accepted {
		s.Valid(step.Head)
		id := step.Call.ID
		if step.Own() {
			id = s.Floor
		}
		s.Moved(step.Head, step.Number, id)
	}
	return r, f
}

func (c *courier) payload(ctx context.Context, s *chain.Session, step chain.Step, body []byte) (*reply, fate) {
	r, f := c.deliver(ctx, step, body)
	switch f {
	case accepted:
		s.Took(step.Call.Payload)
	case refused, faulty:
		s.Invalid(step.Head)
	default:
	}
	return r, f
}

// anchorless moves the head of a client that does not know the safe or finalized block: zero is
// allowed for both. The goal has to be taken as it is, once the head is there.
func (c *courier) anchorless(
	ctx context.Context, s *chain.Session, step chain.Step, body []byte, first *reply,
) (*reply, fate) {
	bare := chain.Step{Kind: chain.Checkpoint, Call: step.Call, Head: step.Head, Number: step.Number}
	r, f := c.deliver(ctx, bare, c.own(bare))
	if f == anchorless {
		return first, faulty
	}
	if f != accepted || step.Kind == chain.Checkpoint {
		return r, f
	}
	s.Moved(step.Head, step.Number, step.Call.ID)
	if r, f = c.deliver(ctx, step, body); f == anchorless {
		return r, faulty
	}
	return r, f
}

// own is the body of a forkchoice of our own making.
func (c *courier) own(step chain.Step) []byte {
	c.ids++
	return engineapi.AppendForkchoice(nil, c.ids, engineapi.Plain(step.Call.Method), engineapi.Forkchoice{
		Head: step.Head, Arity: step.Call.Forkchoice.Arity,
	})
}

// Faults of questions.
var (
	errUnreachable  = errors.New("the client does not answer")
	errUnauthorized = errors.New("the client does not take our token")
	errMisfit       = errors.New("the client's server does not take such a request")
)

// ask puts one question and is the whole answer, which may be a JSON-RPC error. An error is one of the
// faults above, ErrNoToken, ErrOvertaken or the context's.
func (c *courier) ask(ctx context.Context, method, params string) ([]byte, error) {
	c.ids++
	body := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":"%s","params":%s}`, c.ids, method, params)
	for denied := 0; ; {
		r := c.exchange(ctx, c.question, body, c.cfg.ProbeTimeout)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(r.err, ErrNoToken), errors.Is(r.err, ErrOvertaken):
			return nil, r.err
		case r.err != nil || r.result.HTTPStatus >= http.StatusInternalServerError || r.result.Malformed && r.result.HTTPStatus == http.StatusOK:
			c.fail()
			return nil, fmt.Errorf("%s: %w: %w", method, errUnreachable, cause(r))
		case r.result.HTTPStatus == http.StatusUnauthorized || r.result.HTTPStatus == http.StatusForbidden:
			if denied++; denied > 1 {
				return nil, fmt.Errorf("%w: %s", errUnauthorized, denial(r))
			}
		case r.result.HTTPStatus != http.StatusOK:
			return nil, fmt.Errorf("%w: HTTP %d", errMisfit, r.result.HTTPStatus)
		default:
			c.breaker.succeed()
			return r.raw, nil
		}
	}
}

func cause(r *reply) error {
	if r.err != nil {
		return r.err
	}
	return fmt.Errorf("HTTP %d: %.80s", r.result.HTTPStatus, r.result.Message)
}

// denial is what a client said to a token, with the difference of the clocks, the usual cause.
func denial(r *reply) string {
	text := fmt.Sprintf("HTTP %d %.80s", r.result.HTTPStatus, r.result.Message)
	if r.date.IsZero() {
		return text
	}
	return fmt.Sprintf("%s (its clock minus ours: %s)", text, r.date.Sub(r.sent).Round(time.Second))
}
