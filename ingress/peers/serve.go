package peers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/jsonrpc"
	"millrace/internal/order"
)

// The headers of a request, canonical: net/http writes every spelling so. Of the signatures the first one present
// counts, as with FlowProxy.
const (
	headerBuilderNet = "X-Buildernet-Signature"
	headerFlashbots  = "X-Flashbots-Signature"
	headerPriority   = "X-Buildernet-Priority"
	headerSentAt     = "X-Buildernet-Sentatus"
	headerRepeat     = "X-Millrace-Repeat"
)

// flashbotsName is the peer that signs as Flashbots, the first proxy's name for it.
const flashbotsName = "flashbots"

// verifyWait is how long a request may wait for its turn to be verified.
const verifyWait = time.Second

// call is one request.
type call struct {
	peer      string
	rights    order.Rights
	signature string
	arrived   time.Time
	body      []byte
	id        []byte // nil: not known
}

// serve answers one POST.
func (d *Door) serve(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	var c call
	defer func() {
		if v := recover(); v != nil { // one order must not take the process down
			d.log.Error("panic in the system door", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			d.answer(w, &c, errPanic)
		}
		d.metrics.seconds.Observe(time.Since(start).Seconds())
	}()
	d.answer(w, &c, d.take(w, r, &c))
}

// take does everything but the answer.
func (d *Door) take(w http.ResponseWriter, r *http.Request, c *call) error {
	c.arrived = time.UnixMicro(d.ports.Clock.Now().UnixMicro())
	if reason, closed := d.closed(); closed {
		return fail(failClosed, "Disk full: "+reason)
	}
	if err := d.know(r.Header, c); err != nil {
		return err
	}
	size := r.ContentLength
	if size < 0 {
		size = d.cfg.MaxBody + bodyRoom
	}
	if size > d.cfg.MaxBody+bodyRoom {
		return d.tooLarge()
	}
	if !d.room.take(size + 1) {
		return fail(failOverloaded, "too many bytes of orders in flight")
	}
	defer d.room.give(size + 1)
	buf := d.buffer(size + 1)
	defer d.release(buf)
	if err := d.read(w, r, c, (*buf)[:0], size); err != nil {
		return err
	}
	if err := d.verify(r.Context(), c); err != nil {
		return err
	}
	return d.receive(r, c)
}

// know asks who is claimed to have signed, before the body costs anything.
func (d *Door) know(h http.Header, c *call) error {
	values, ok := h[headerBuilderNet]
	if !ok {
		values = h[headerFlashbots]
	}
	if len(values) == 0 || values[0] == "" {
		return fail(failSignature, order.ErrNoSignature.Error())
	}
	c.signature = values[0]
	a, ok := order.ClaimedSigner(c.signature)
	if !ok {
		return fail(failSignature, "invalid signature provided: missing separator or address")
	}
	switch {
	case a == d.cfg.Own: // what we send comes back to us from no honest peer
	case a == d.flashbots && a != (common.Address{}):
		c.peer, c.rights = flashbotsName, order.RightsAll
		return nil
	default:
		if c.peer, ok = d.ports.Peers.BySigner(a); ok {
			c.rights = order.RightsOrders
			return nil
		}
	}
	return fail(failUnknownPeer, "unknown peers can't send to the system address")
}

// read reads the body into b, which has room for size bytes and one more.
func (d *Door) read(w http.ResponseWriter, r *http.Request, c *call, b []byte, size int64) error {
	// A writer without deadlines has no slow client either (tests).
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(d.bodyTime(size)))
	body := http.MaxBytesReader(w, r.Body, d.cfg.MaxBody+bodyRoom)
	b = b[:size+1]
	n, err := io.ReadFull(body, b)
	var large *http.MaxBytesError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF) && (r.ContentLength < 0 || int64(n) == r.ContentLength):
		c.body = b[:n]
		return nil
	case err == nil, errors.As(err, &large):
		return d.tooLarge()
	}
	return fail(failBody, "body is truncated, or came too slowly")
}

func (d *Door) tooLarge() error {
	return fail(failTooLarge, "request body is too big, max size: "+strconv.FormatInt(d.cfg.MaxBody, 10))
}

// verify proves who signed; so many at a time as there are processors.
func (d *Door) verify(ctx context.Context, c *call) error {
	wait := time.NewTimer(verifyWait)
	defer wait.Stop()
	select {
	case d.verifying <- struct{}{}:
	case <-wait.C:
		return fail(failOverloaded, "too many requests")
	case <-ctx.Done():
		return fail(failBody, "the client went away")
	}
	defer func() { <-d.verifying }()
	if _, err := order.RecoverSigner(c.signature, c.body); err != nil {
		return fail(failSignature, "invalid signature provided: "+err.Error())
	}
	return nil
}

// receive reads the call and has it stored.
func (d *Door) receive(r *http.Request, c *call) error {
	calls, batch, rpcErr := jsonrpc.Parse(c.body, 1)
	switch {
	case rpcErr != nil:
		return fail(failParse, rpcErr.Error())
	case batch:
		return fail(failParse, "batches are not taken")
	case calls[0].Err != nil:
		return fail(failParse, calls[0].Err.Error())
	}
	c.id = bytes.Clone(calls[0].Request.ID) // it outlives the body
	m, ok := order.ParseRelayedMethod(calls[0].Request.Method)
	switch {
	case !ok:
		return fail(failMethod, "method not found")
	case m == order.MethodSubsidiseBlock && c.rights != order.RightsAll:
		return fail(failSubsidy, "subsidy can only be called by Flashbots")
	}
	in := order.Incoming{
		Peer: c.peer, Order: claims(r.Header), Body: c.body, Key: d.key(), ArrivedAt: c.arrived, SentAt: sentAt(r.Header),
		Redelivered: r.Header.Get(headerRepeat) != "", Rights: c.rights,
	}
	// The client's going away does not stop what has begun.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), d.cfg.StoreTimeout)
	defer cancel()
	return d.ports.Receiver.Receive(ctx, in)
}

// key is another one for each request, also of another process.
func (d *Door) key() string { return d.life + " " + strconv.FormatUint(d.count.Add(1), 10) }

// claims is what the peer says of the order beside its body; nil: nothing.
func claims(h http.Header) *order.Order {
	for _, p := range order.Priorities {
		if h.Get(headerPriority) == p.String() {
			return &order.Order{Priority: p}
		}
	}
	return nil
}

// sentAt is when the peer says that it sent the request; zero: it does not, or not in a way that makes sense.
func sentAt(h http.Header) time.Time {
	us, err := strconv.ParseInt(h.Get(headerSentAt), 10, 64)
	if err != nil || us <= 0 || us > 1<<53 {
		return time.Time{}
	}
	return time.UnixMicro(us)
}
