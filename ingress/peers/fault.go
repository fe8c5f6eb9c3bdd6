package peers

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"millrace/internal/jsonrpc"
	"millrace/internal/order"
)

// codeCustom is the first proxy's code for what a method itself refuses.
const codeCustom = -32000

// retryAfter is what Retry-After asks for.
const retryAfter = time.Second

// failure is why a call was not a success: a closed set, so it may be a metric label.
type failure uint8

const (
	failSignature failure = iota + 1
	failUnknownPeer
	failTooLarge
	failBody
	failParse
	failMethod
	failSubsidy
	failRefused
	failOverloaded
	failClosed
	failUnavailable
	failInternal
)

var failureNames = [...]string{
	"accepted", "signature", "unknown_peer", "body_too_large", "body", "parse", "unknown_method", "subsidy", "refused",
	"overloaded", "door_closed", "unavailable", "internal",
}

// failed is a failure with its text for the peer.
type failed struct {
	failure failure
	text    string
}

// Error is the text.
func (f *failed) Error() string { return f.text }

func fail(f failure, text string) error { return &failed{f, text} }

var errPanic = fail(failInternal, jsonrpc.MessageInternal)

// failedBy is what an error means to the peer.
func failedBy(err error) *failed {
	if f, ok := errors.AsType[*failed](err); ok {
		return f
	}
	if r := order.AsReason(err); r != nil {
		return &failed{failRefused, r.Text}
	}
	if errors.Is(err, order.ErrFull) {
		return &failed{failUnavailable, order.ErrFull.Error()}
	}
	return &failed{failUnavailable, order.ErrUnavailable.Error()} // the detail is not for peers
}

// rpc is the JSON-RPC error and the HTTP status of a failure.
func (f *failed) rpc() (e jsonrpc.Error, status int) {
	e = jsonrpc.Error{Code: codeCustom, Message: f.text}
	switch f.failure {
	case failSignature, failTooLarge, failBody:
		e.Code = jsonrpc.CodeInvalidRequest
	case failParse:
		e.Code = jsonrpc.CodeParse
	case failMethod:
		e.Code = jsonrpc.CodeMethodNotFound
	case failOverloaded, failClosed, failUnavailable, failInternal:
		e.Code = jsonrpc.CodeInternal
		return e, http.StatusServiceUnavailable
	default:
	}
	return e, http.StatusOK
}

// answer writes what became of a call.
func (d *Door) answer(w http.ResponseWriter, c *call, err error) {
	var buf [256]byte
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if err == nil {
		d.metrics.outcomes[0].Inc()
		_, _ = w.Write(jsonrpc.AppendResult(buf[:0], c.id, []byte("null"))) // the peer went away; the order is stored
		return
	}
	f := failedBy(err)
	d.metrics.outcomes[f.failure].Inc()
	e, status := f.rpc()
	if status != http.StatusOK {
		h.Set("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
	}
	if c.body == nil {
		h.Set("Connection", "close") // the body was not read; don't wait for it
	}
	w.WriteHeader(status)
	_, _ = w.Write(jsonrpc.AppendError(buf[:0], c.id, &e))
}
