package ingress

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"millrace/internal/jsonrpc"
	"millrace/internal/order"
)

// call is one order of a request, from its JSON-RPC call to its answer.
type call struct {
	id    []byte // raw JSON, nil for null
	err   error  // final once nothing below is pending; nil: accepted
	order order.Order

	flight    *flight // set while the outcome is open
	lead      bool    // the flight is this call's own and has not landed
	claimed   bool    // the nonce claim is this call's to undo
	duplicate bool    // the store had this id before
	waiter    *waiter
	deadline  time.Time // of the verdict, process clock

	asked  *common.Hash // set: the call is no order but asks what became of one
	result []byte       // the answer to that, JSON
}

// digest is the keccak of a batch's body, which its signature covers.
func (q *request) digest() common.Hash {
	if !q.batch {
		return common.Hash{}
	}
	return crypto.Keccak256Hash(q.body.data)
}

// batchOf is order.Order.Batch of element i of n.
func batchOf(i, n int, digest common.Hash) string {
	b := strconv.AppendInt(make([]byte, 0, 80), int64(i), 10)
	b = append(b, '/')
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, ':')
	return string(append(b, digest.Hex()[2:]...))
}

// prepare turns a parsed call into an order; it uses the CPU only. An error is the call's answer.
func (s *Server) prepare(q *request, c *call, in *jsonrpc.Call) error {
	if in.Err != nil {
		return in.Err
	}
	if ok, err := s.asksStatus(q, c, in); ok {
		return err
	}
	score := q.entity.request(q.received)
	method, ok := order.ParseMethod(in.Request.Method)
	if !ok {
		return deny(deniedMethod, in.Request.Method[:min(len(in.Request.Method), 64)])
	}
	sub, err := order.Decode(method, in.Request.Params, order.Limits{MaxTxs: q.policy.Orders.MaxTxs})
	if err != nil {
		return s.invalid(q, err)
	}
	o := &c.order
	o.Priority = order.Classify(score, sub, len(q.body.data))
	q.entity.classified(o.Priority)
	if sub.Kind != order.KindCancel && s.shed.refuses(o.Priority, q.policy.ShedAge) {
		return deny(deniedShed, o.Priority.String()+" orders are refused while workers are behind")
	}
	if o.Deadline = deadline(q.received, q.policy.Orders.MaxAge, sub.MaxTimestamp); o.Expired(q.received) {
		return order.Refuse(order.CodeExpired, "maxTimestamp has passed")
	}
	o.Nonce, o.NonceDefaulted = q.memory.nonce(q.signer, sub, q.received)
	if o.Hash, err = sub.PublicHash(o.Nonce); err != nil {
		return s.invalid(q, err)
	}
	o.ID, o.Key = sub.Identify(q.signer, o.Nonce, o.NonceDefaulted)
	o.Accept = order.NewAcceptID(q.received)
	o.Signer, o.Method, o.Kind, o.Replacement = q.signer, method, sub.Kind, sub.Replacement
	o.TargetBlock = sub.TargetBlock
	o.ReceivedAt = q.received
	if method == order.MethodSendShareBundle && q.policy.Dialect == DialectV1 && !sub.Replacement.IsZero() {
		o.ShareNonce = q.memory.count(q.signer, sub.Replacement)
	}
	o.Ingress, o.Signature, o.Traceparent = s.id, q.header+": "+q.signature, q.traceparent
	o.Body, o.Reading = q.body.data, sub
	return nil
}

// invalid counts a refusal of the content against its sender and passes err on.
func (s *Server) invalid(q *request, err error) error {
	q.entity.invalid(q.received)
	if order.AsReason(err) == nil {
		return order.Refuse(order.CodeMalformed, "order can't be read")
	}
	return err
}

// deadline is when an order's life ends: after maxAge, or at its maxTimestamp (seconds, zero: unset).
func deadline(received time.Time, maxAge time.Duration, maxTimestamp uint64) time.Time {
	end := received.Add(maxAge)
	if maxTimestamp == 0 || maxTimestamp > uint64(end.Unix()) { //nolint:gosec // after 1970
		return end
	}
	return time.Unix(int64(maxTimestamp), 0) //nolint:gosec // not after end
}

// dispatch stores what was prepared, in order, then waits for all verdicts at once, and looks up last what
// is asked. Its own flights land before it waits for others', so two batches can't wait for each other.
func (s *Server) dispatch(ctx context.Context, q *request) {
	for i := range q.calls {
		if c := &q.calls[i]; c.err == nil && c.asked == nil {
			s.submit(ctx, q, c)
		}
	}
	q.stage = s.metrics.since(stagePublish, q.stage)
	for i := range q.calls {
		if c := &q.calls[i]; c.lead {
			s.settle(ctx, q, c)
		}
	}
	for i := range q.calls {
		if c := &q.calls[i]; c.flight != nil {
			c.err, c.flight = c.flight.outcome(ctx), nil
		}
	}
	q.stage = s.metrics.since(stageVerdict, q.stage)
	s.statuses(ctx, q)
}

// submit stores c's order, unless its outcome is known or another call is finding it out.
func (s *Server) submit(ctx context.Context, q *request, c *call) {
	c.flight, c.lead = s.flights.board(c.order.ID)
	if !c.lead {
		s.metrics.repeats.Inc()
		return
	}
	if reason, known := q.memory.outcomes.GetIfPresent(c.order.ID); known {
		s.metrics.repeats.Inc()
		s.land(q, c, refusal(reason))
		return
	}
	if err := s.store(ctx, q, c); err != nil {
		s.unstored(q, c)
		s.land(q, c, err)
	}
}

// store publishes c's order. The client's going away does not stop it: others may have joined.
func (s *Server) store(ctx context.Context, q *request, c *call) (err error) {
	o := &c.order
	if c.claimed, err = q.memory.claim(o); err != nil {
		return s.invalid(q, err)
	}
	if !q.source.store(q.received, len(o.Body), q.policy.source) {
		return deny(deniedIPBytes, "too many bytes of orders from this address")
	}
	c.waiter = s.waiters.expect(o.Accept)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), q.policy.PublishTimeout)
	defer cancel()
	receipt, err := s.ports.Publisher.Publish(ctx, o)
	if err != nil || receipt.Duplicate {
		q.source.refund(q.received, len(o.Body))
	}
	if err != nil {
		s.verdictBy(c, time.Time{})
		return publishError(ctx, err)
	}
	q.memory.keep(o)
	c.duplicate = receipt.Duplicate
	c.deadline = time.Now().Add(q.policy.VerdictWait)
	return nil
}

// publishError makes what the store answers one of its documented errors.
func publishError(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, order.ErrFull) {
		return order.ErrUnavailable
	}
	return err
}

// unstored undoes whatever was remembered of an order that was not stored, or not as a valid one,
// so that its sender can send it again (STYLE 17).
func (s *Server) unstored(q *request, c *call) {
	if c.claimed {
		q.memory.unclaim(&c.order)
	}
}

// settle waits for the verdict on a stored order.
func (s *Server) settle(ctx context.Context, q *request, c *call) {
	if !c.duplicate {
		v := s.verdictBy(c, c.deadline)
		if v.Reason != nil {
			s.unstored(q, c) // it ends here, so its nonce is free for a mended order
		}
		s.land(q, c, refusal(v.Reason)) // no verdict: stored, and that is what success means
		return
	}
	s.verdictBy(c, time.Time{}) // it went to the ingress that stored the order
	reason := s.sharedRefusal(ctx, q, c)
	if reason != nil {
		_, _ = q.memory.outcomes.Set(c.order.ID, reason)
	}
	s.land(q, c, refusal(reason))
}

// verdictBy waits for c's verdict until the deadline and ends the waiting; zero only ends it. The
// zero verdict has no reason either: none came.
func (s *Server) verdictBy(c *call, deadline time.Time) (v order.Verdict) {
	if c.waiter != nil {
		v, _ = s.waiters.wait(c.order.Accept, c.waiter, deadline)
		c.waiter = nil
	}
	return v
}

// sharedRefusal looks for the refusal of an order that another process, or an earlier life of this
// one, had stored (CORRECTNESS 5).
func (s *Server) sharedRefusal(ctx context.Context, q *request, c *call) *order.Reason {
	var (
		reason *order.Reason
		err    error
	)
	ctx = context.WithoutCancel(ctx)
	if q.policy.VerdictWait > 0 {
		ctx, cancel := context.WithDeadline(ctx, c.deadline)
		defer cancel()
		reason, err = s.ports.Refusals.AwaitRefusal(ctx, c.order.ID)
	} else {
		ctx, cancel := context.WithTimeout(ctx, q.policy.PublishTimeout)
		defer cancel()
		reason, err = s.ports.Refusals.Refusal(ctx, c.order.ID)
	}
	if err != nil {
		return nil // the order is stored; that its refusal can't be read now changes nothing
	}
	return reason
}

// land makes err the outcome of c and of all calls that joined it.
func (s *Server) land(q *request, c *call, err error) {
	if err == nil {
		// A refusal that came meanwhile stays.
		_, _ = q.memory.outcomes.SetIfAbsent(c.order.ID, nil)
	}
	s.flights.land(c.flight, err)
	c.err, c.flight, c.lead = err, nil, false
}

// refusal is r as an error, nil when there is none.
func refusal(r *order.Reason) error {
	if r == nil {
		return nil
	}
	return r
}

// verdict takes a worker's decision, in time or late. It does not block.
func (s *Server) verdict(v order.Verdict) {
	if v.Reason != nil {
		m := s.memory.Load()
		_, _ = m.outcomes.Set(v.ID, v.Reason)
		if e, ok := m.entities.GetIfPresent(v.Signer); ok && blames(v.Reason.Code) {
			e.invalid(v.Accept.Received())
		}
	}
	if !s.waiters.deliver(v) && v.Reason != nil {
		s.metrics.late.Inc()
		s.metrics.reject(v.Reason.Code.String())
	}
}

// blames reports whether a refusal counts against its sender: lateness and crashes are ours.
func blames(c order.Code) bool { return c != order.CodeExpired && c != order.CodePoisoned }
