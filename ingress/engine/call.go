package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"strconv"
	"time"

	"millrace/internal/engineapi"
	"millrace/internal/engineapi/record"
	"millrace/internal/jsonrpc"
	"millrace/internal/wire"
)

// reply is what the consensus client gets. The header is shared with the answer: not to be changed.
type reply struct {
	status int
	header http.Header // nil: JSON of our own making
	body   []byte
}

// Reasons of Outcome.Unknown.
const (
	unknownUnreachable = "primary unreachable"
	unknownTimeout     = "primary too slow"
	unknownCut         = "answer cut short"
	unknownTooLarge    = "answer too large"
	unknownStopped     = "door stopped"
)

// finish sends a dispatched exchange, delivers the reply, and then has the outcome recorded. It
// belongs to nobody's connection: ctx has the call's deadline and ends early only when the door
// stops.
func (d *Door) finish(ctx context.Context, x *exchange, deliver func(reply)) {
	d.metrics.inflight.Inc()
	defer d.metrics.inflight.Dec()
	a, err := d.send(ctx, x)
	d.order.ended(x)
	took := time.Since(x.dispatched)
	if err != nil {
		unknown, status := unknownOf(ctx, err)
		if d.order.leads(x.target) {
			d.health.failed(ctx, x.target, err)
		}
		deliver(reply{status: status, body: failure(x, status)})
		d.recordUnknown(x, took, unknown)
		return
	}
	defer a.release()
	if d.order.leads(x.target) {
		d.health.answered(ctx, x.target, a.status)
	}
	d.learn(x, a)
	deliver(d.replyOf(x, a))
	d.recordAnswer(x, a, took)
}

// replyOf is what the caller gets. A WebSocket has no place for an HTTP status: there, another than
// 200 is an error under the caller's id.
func (d *Door) replyOf(x *exchange, a *answer) reply {
	if x.socket && a.status != http.StatusOK {
		e := &jsonrpc.Error{Code: jsonrpc.CodeInternal, Message: messageStatus + strconv.Itoa(a.status)}
		return reply{status: a.status, body: appendErrors(x, e)}
	}
	return reply{a.status, a.header, d.flat(x, a)}
}

// send makes the exchange, and once more if all that happened is that a kept-alive connection was
// found closed. Not a byte of an answer came then, but the request may have been carried out.
func (d *Door) send(ctx context.Context, x *exchange) (*answer, error) {
	a, err := x.target.send(ctx, &x.message, x.release)
	var failed *sendError
	if err == nil || !errors.As(err, &failed) || !failed.stale || x.once {
		return a, err
	}
	release, ok := d.order.again(ctx, x)
	if !ok {
		return nil, err
	}
	d.metrics.resent.Inc()
	return x.target.send(ctx, &x.message, release)
}

// unknownOf tells why there is no answer, and the HTTP status that says so.
func unknownOf(ctx context.Context, err error) (unknown string, status int) {
	switch {
	case errors.Is(context.Cause(ctx), errStopped):
		return unknownStopped, http.StatusBadGateway
	case errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil:
		return unknownTimeout, http.StatusGatewayTimeout
	case errors.Is(err, wire.ErrTooLarge):
		return unknownTooLarge, http.StatusBadGateway
	}
	var failed *sendError
	if errors.As(err, &failed) && failed.began {
		return unknownCut, http.StatusBadGateway
	}
	return unknownUnreachable, http.StatusBadGateway
}

// learn takes from an answer what the door itself needs, before the consensus client can act on it.
func (d *Door) learn(x *exchange, a *answer) {
	if a.status != http.StatusOK {
		return
	}
	if x.authorization != "" {
		d.token.set(x.authorization)
	}
	for i, r := range x.requests {
		if r.Forkchoice == nil || !r.Forkchoice.Attributes {
			continue
		}
		if a.views == nil {
			a.views = views(x, a.body)
		}
		if id := engineapi.ParseResult(a.status, a.views[i]).PayloadID; id != "" {
			d.issuers.set(id, x.target)
		}
	}
}

// recordAnswer records one outcome per call.
func (d *Door) recordAnswer(x *exchange, a *answer, took time.Duration) {
	if a.views == nil {
		a.views = views(x, a.body)
	}
	for i, r := range x.requests {
		o := &record.Outcome{
			ID: r.ID, Method: r.Method, HTTPStatus: a.status, Duration: took,
			Size: int64(len(a.views[i])), SHA256: sha256.Sum256(a.views[i]),
			Result:   engineapi.ParseResult(a.status, a.views[i]),
			Eligible: a.status == http.StatusOK,
		}
		if o.Result.OK() && r.Class == engineapi.ClassPayload {
			o.Built = record.ParseBuilt(r.Call().PayloadID(), a.views[i])
		}
		// What stands before the primary says that the primary is not there.
		if x.verified && gateway(a.status) {
			o.Unknown, o.Eligible = unknownUnreachable, true
		}
		d.metrics.called(r.Method, outcomeOf(&o.Result))
		d.ports.Recorder.Outcome(o)
	}
	d.metrics.took(x, took)
	if a.status == http.StatusUnauthorized || a.status == http.StatusForbidden {
		d.metrics.refusals[refusedByPrimary].Inc()
	}
}

// recordUnknown records that there was no answer. The call may have been carried out or not; it is
// worth repeating if we know who asked.
func (d *Door) recordUnknown(x *exchange, took time.Duration, unknown string) {
	outcome := outcomeUnreachable
	if unknown == unknownTimeout {
		outcome = outcomeTimeout
	}
	for _, r := range x.requests {
		d.metrics.called(r.Method, outcome)
		d.ports.Recorder.Outcome(&record.Outcome{
			ID: r.ID, Method: r.Method, Duration: took, Unknown: unknown, Eligible: x.verified,
		})
	}
	d.metrics.took(x, took)
}

func gateway(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}
