package ingress

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/jsonrpc"
	"millrace/internal/order"
)

// The signature headers, canonical; the first one present is the one that counts.
const (
	headerBuilderNet = "X-Buildernet-Signature"
	headerFlashbots  = "X-Flashbots-Signature"
)

// request is one HTTP request on its way through the door. Requests are pooled.
type request struct {
	policy   *policy
	memory   *memory
	received time.Time // bus clock, whole microseconds
	start    time.Time // process clock, for durations
	stage    time.Time // process clock, end of the last stage

	from   netip.Addr
	source *source
	body   body

	header      string // name of the signature header
	signature   string // its value
	traceparent string
	signer      common.Address
	entity      *entity

	lot   int // of the place at the gate that it has; lotGood: none
	batch bool
	calls []call
	out   []byte
}

// serve answers one POST of orders.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	q, _ := s.requests.Get().(*request)
	s.begin(q, r)
	defer s.end(q)
	defer s.recovered(w, q)
	if err := s.receive(w, r, q); err != nil {
		s.hold(r.Context(), q, err)
		s.refuse(w, q, err)
		return
	}
	s.dispatch(r.Context(), q)
	s.answer(w, q)
}

func (s *Server) begin(q *request, r *http.Request) {
	q.policy, q.memory = s.policy.Load(), s.memory.Load()
	q.start = time.Now()
	q.stage = q.start
	q.received = time.UnixMicro(s.ports.Clock.Now().UnixMicro())
	q.from = client(r, q.policy.trusted)
}

// end lets go of everything that q holds. Flights that a panic left behind land here.
func (s *Server) end(q *request) {
	for i := range q.calls {
		if c := &q.calls[i]; c.lead {
			s.verdictBy(c, time.Time{})
			s.land(q, c, order.ErrUnavailable)
		}
	}
	s.vacate(q)
	s.metrics.request(len(q.body.data), time.Since(q.start))
	s.bodies.release(&q.body)
	clear(q.calls)
	*q = request{calls: q.calls[:0], out: q.out[:0]}
	s.requests.Put(q)
}

// vacate gives up q's place at the gate, if it has one.
func (s *Server) vacate(q *request) {
	if q.lot != lotGood {
		s.gate.vacate(q.lot)
		q.lot = lotGood
	}
}

// hold keeps a request that is refused for want of capacity waiting for its answer, with nothing
// but its connection: who sends more than we can take does not get to ask again at once. It costs
// us a timer, and the sender its turn.
func (s *Server) hold(ctx context.Context, q *request, err error) {
	var d *deniedError
	if q.policy.RefusalDelay <= 0 || !errors.As(err, &d) || (d.denial != deniedShed && d.denial != deniedGate) {
		return
	}
	s.vacate(q)
	s.bodies.release(&q.body)
	timer := time.NewTimer(q.policy.RefusalDelay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// recovered turns a panic into an internal error: one order must not take the process down.
func (s *Server) recovered(w http.ResponseWriter, q *request) {
	if v := recover(); v != nil {
		s.log.Error("panic in the order door",
			slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
		s.refuse(w, q, deny(deniedInternal, ""))
	}
}

// receive takes the request up to the point where its orders are known: what is wrong with the
// request as a whole is its error. Cheap checks come first.
func (s *Server) receive(w http.ResponseWriter, r *http.Request, q *request) error {
	if reason, closed := s.ports.Door.DoorClosed(); closed {
		return deny(deniedClosed, reason)
	}
	q.source = recall(q.memory.sources, q.from, func() *source { return new(source) })
	if !q.source.request(q.received, 1, q.policy.source) {
		return deny(deniedIPRate, "too many requests from this address")
	}
	if err := q.headers(r.Header); err != nil {
		return err
	}
	if err := s.bodies.read(&q.body, w, r, q.policy); err != nil {
		return err
	}
	q.stage = s.metrics.since(stageBody, q.stage)
	if err := s.admit(r.Context(), q); err != nil {
		return err
	}
	defer s.gate.leave()
	q.stage = s.metrics.since(stageGate, q.stage)
	if err := s.authenticate(q); err != nil {
		return err
	}
	q.stage = s.metrics.since(stageVerify, q.stage)
	err := s.read(q)
	q.stage = s.metrics.since(stageDecode, q.stage)
	return err
}

// headers takes the signature and the trace context. A BuilderNet header that is present is the
// one that counts, whatever it says.
func (q *request) headers(h http.Header) error {
	q.header = headerBuilderNet
	values, ok := h[headerBuilderNet]
	if !ok {
		q.header, values = headerFlashbots, h[headerFlashbots]
	}
	if len(values) == 0 || values[0] == "" {
		return deny(deniedSignature, order.ErrNoSignature.Error())
	}
	q.signature = values[0]
	if tp := h["Traceparent"]; len(tp) == 1 && isTraceparent(tp[0]) {
		q.traceparent = tp[0]
	}
	return nil
}

// isTraceparent reports whether s has the shape of version 00 of W3C's trace context.
func isTraceparent(s string) bool {
	if len(s) != len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01") {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 2, 35, 52:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}

// admit waits for a CPU slot; the caller leaves the gate when it returns nil. What a claimed
// signer is worth decides who goes first, and whether it is worth verifying at all.
func (s *Server) admit(ctx context.Context, q *request) error {
	var st standing
	if claimed, ok := order.ClaimedSigner(q.signature); ok {
		if e, ok := q.memory.entities.GetIfPresent(claimed); ok {
			st = e.standing(q.from, q.received)
		}
	}
	st.lowly = st.lowly || blobTransaction(q.body.data)
	if st.score >= order.ScoreLow && s.shed.refuses(order.PriorityLow, q.policy.ShedAge) && !mayCancel(q.body.data) {
		return deny(deniedShed, "low orders are refused while workers are behind")
	}
	r := rankOf(st, q.body.data)
	if err := s.gate.enter(ctx, r, q.policy.GateWait); err != nil {
		return err
	}
	q.lot = r.lot()
	return nil
}

// authenticate recovers the signer and charges its rate.
func (s *Server) authenticate(q *request) error {
	signer, err := order.RecoverSigner(q.signature, q.body.data)
	if err != nil {
		q.source.request(q.received, badSignatureCost, q.policy.source)
		if claimed, ok := order.ClaimedSigner(q.signature); ok {
			if e, ok := q.memory.entities.GetIfPresent(claimed); ok {
				e.forged(q.from, q.received)
			}
		}
		return deny(deniedSignature, err.Error())
	}
	q.signer = signer
	q.entity = recall(q.memory.entities, signer, func() *entity { return new(entity) })
	if !q.entity.allow(q.received, 1, q.policy.RateLimit) {
		return deny(deniedRate, "too many orders by this signer")
	}
	return nil
}

// read parses the body and prepares each call.
func (s *Server) read(q *request) error {
	calls, batch, rpcErr := jsonrpc.Parse(q.body.data, q.policy.MaxBatch)
	if rpcErr != nil {
		return rpcErr
	}
	if len(calls) > 1 && !q.entity.allow(q.received, len(calls)-1, q.policy.RateLimit) {
		return deny(deniedRate, "too many orders by this signer")
	}
	q.batch = batch
	digest := q.digest()
	for i := range calls {
		q.calls = append(q.calls, call{})
		c := &q.calls[i]
		c.id = calls[i].Request.ID
		c.err = s.prepare(q, c, &calls[i])
		if batch {
			c.order.Body, c.order.Batch = calls[i].Request.Raw, batchOf(i, len(calls), digest)
		}
	}
	return nil
}
