package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"millrace/internal/jsonrpc"
	"millrace/internal/rpcapi"
)

// keptOut and keptCalls bound what a message keeps for the next one: bytes of an answer made here, calls of a batch.
const (
	keptOut   = 64 << 10
	keptCalls = 128
)

// message is one HTTP request or one message of a WebSocket on its way through the door.
type message struct {
	policy   *policy
	dialect  dialect
	client   Client
	received time.Time
	body     body
	carrier  carrier
	// writer is there as long as the deadline for the body is.
	writer http.ResponseWriter

	calls    []jsonrpc.Call
	outcomes []outcome
	out      []byte

	// What became of it, for headers, metrics and the log. Answer is nil where no node was asked, or several were.
	answer  *rpcapi.Answer
	reason  rpcapi.Reason // empty: no error
	fault   fault         // the error that makes the whole reply, or, in a batch, the one to wait longest for
	status  int
	source  rpcapi.Source
	tries   int
	height  uint64
	node    *rpcapi.Node
	elapsed time.Duration
}

// carrier is what brought a message.
type carrier uint8

const (
	overHTTP carrier = iota + 1
	overSocket
)

// begin starts a request's way; end ends it.
func (d *Door) begin(r *http.Request, in dialect) *message {
	m := d.messages.Get().(*message) //nolint:forcetypeassert // holds nothing else
	m.policy, m.dialect, m.carrier = d.policy.Load(), in, overHTTP
	m.received = time.Now()
	m.client = clientOf(r, m.policy)
	d.inflight.Add(1)
	return m
}

func (d *Door) end(m *message) {
	d.inflight.Add(-1)
	d.budget.inUse.Add(-m.body.held)
	d.recycle(m)
}

// recycle keeps m's buffers, unless they are large, and nothing of the request.
func (d *Door) recycle(m *message) {
	next := message{calls: m.calls, outcomes: m.outcomes, out: m.out[:0], body: body{room: m.body.room}}
	if m.carrier == overHTTP && cap(m.body.data) > cap(m.body.room) && cap(m.body.data) <= keptBody {
		next.body.room = m.body.data[:0]
	}
	if cap(next.out) > keptOut {
		next.out = nil
	}
	if cap(next.calls) > keptCalls {
		next.calls, next.outcomes = nil, nil
	}
	clear(next.calls)
	clear(next.outcomes)
	next.calls, next.outcomes = next.calls[:0], next.outcomes[:0]
	*m = next
	d.messages.Put(m)
}

// wait readies a message for waiting for a node: the deadline for the body would end the call's context, too. What is
// answered from memory does not need that.
func (m *message) wait() {
	if m.writer != nil {
		_ = http.NewResponseController(m.writer).SetReadDeadline(time.Time{}) // a test's writer has none
		m.writer = nil
	}
}

// call has a node answer c. A fault in what is behind the port costs this call only.
func (d *Door) call(ctx context.Context, c *rpcapi.Call) (a *rpcapi.Answer, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = d.panicked(ctx, v)
		}
	}()
	a, err = d.ports.Caller.Call(ctx, c)
	if err != nil && errors.Is(context.Cause(ctx), rpcapi.ErrStopping) {
		err = rpcapi.ErrStopping // its client is still there
	}
	return a, err
}

func (d *Door) panicked(ctx context.Context, v any) error {
	d.log.LogAttrs(ctx, slog.LevelError, "a call panicked", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
	return fmt.Errorf("panic: %v", v)
}

// knownLength is the size from which a Content-Length has to be said; below, the server counts by itself.
const knownLength = 2 << 10

// write sends a reply whose headers are set, and accounts for the request.
func (d *Door) write(ctx context.Context, w http.ResponseWriter, m *message, status int, reply []byte) {
	if len(reply) >= knownLength {
		w.Header()["Content-Length"] = []string{strconv.Itoa(len(reply))}
	}
	d.writeHeader(w, m, status, len(reply))
	if len(reply) > 0 {
		_, _ = w.Write(reply) // the client went away
	}
	d.account(ctx, m, len(reply))
}

// slowest is how many bytes of an answer a client takes in a second at least.
const slowest = 256 << 10

// writeHeader begins a reply of so many bytes. The server's deadline counts from the request: it is renewed when
// that is long ago or the reply is long.
func (d *Door) writeHeader(w http.ResponseWriter, m *message, status, size int) {
	if more := time.Duration(size/slowest) * time.Second; more > 0 || m.elapsed > d.writing/4 {
		// A test's writer has no deadline.
		_ = http.NewResponseController(w).SetWriteDeadline(m.received.Add(m.elapsed + d.writing + more))
	}
	if d.draining.Load() {
		w.Header()["Connection"] = []string{"close"} // the client's next call goes elsewhere
	}
	m.status = status
	w.WriteHeader(status)
}

// account counts a request that was answered, and logs it when its turn has come.
func (d *Door) account(ctx context.Context, m *message, out int) {
	if a := m.answer; a != nil {
		m.tries, m.height, m.node = a.Tries, a.Height, a.Node
	}
	d.metrics.request(m, out)
	if every := m.policy.LogEvery; every > 0 && d.sampled.Add(1)%uint64(every) == 0 {
		d.record(ctx, m)
	}
}
