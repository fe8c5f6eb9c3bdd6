package ingress

import (
	"errors"
	"net/http"
	"time"

	"millrace/internal/jsonrpc"
	"millrace/internal/order"
)

// denial is why the door itself turned a request away: a closed set, so it may be a metric label.
type denial uint8

// The denials.
const (
	deniedParse denial = iota + 1
	deniedRequest
	deniedSignature
	deniedMethod
	deniedParams
	deniedRate
	deniedIPRate
	deniedIPBytes
	deniedShed
	deniedGate
	deniedBodyBytes
	deniedSlowBody
	deniedTooLarge
	deniedFull
	deniedClosed
	deniedMark
	deniedUnavailable
	deniedStatus
	deniedInternal
)

// denials are the metric labels, by denial.
func denials() [deniedInternal + 1]string {
	return [...]string{
		"", "parse", "invalid_request", "signature", "unknown_method", "params", "rate_limited",
		"ip_budget", "ip_bytes", "shed", "cpu", "byte_budget", "slow_body", "body_too_large",
		"full", "door_closed", "replay_mark", "unavailable", "status", "internal",
	}
}

// deniedError is a denial with its reason for error.data.
type deniedError struct {
	denial denial
	data   string
}

// Error is the reason.
func (e *deniedError) Error() string { return e.data }

func deny(d denial, data string) error { return &deniedError{denial: d, data: data} }

// codeNoStatus says that nobody tells what became of orders now, in the range that JSON-RPC leaves to servers.
const codeNoStatus = -32000

// retryAfter is what Retry-After asks for: longer than a burst, shorter than an order's life.
const retryAfter = time.Second

// fault is a failure as the client and the metrics see it.
type fault struct {
	rpc    jsonrpc.Error
	status int
	retry  time.Duration // sent as Retry-After when positive
	label  string        // of millrace_order_rejected_total
}

// faultOf is the error table of the package documentation.
func faultOf(err error) fault {
	if r := order.AsReason(err); r != nil {
		return fault{rpc: jsonrpc.Error{Code: jsonrpc.CodeInvalidParams, Message: "Invalid params", Data: r.Text}, status: http.StatusBadRequest, label: r.Code.String()}
	}
	var (
		rpc    *jsonrpc.Error
		denied *deniedError
	)
	switch {
	case errors.As(err, &rpc):
		return envelopeFault(rpc)
	case errors.As(err, &denied):
		return deniedFault(denied)
	case errors.Is(err, order.ErrFull):
		return deniedFault(&deniedError{deniedFull, order.ErrFull.Error()})
	case errors.Is(err, order.ErrUnavailable):
		return deniedFault(&deniedError{deniedUnavailable, order.ErrUnavailable.Error()})
	default: // the detail is for the log only
		return deniedFault(&deniedError{deniedInternal, ""})
	}
}

// envelopeFault adds status and label to what the JSON-RPC parser found.
func envelopeFault(e *jsonrpc.Error) fault {
	f := fault{rpc: *e, status: http.StatusBadRequest}
	d := deniedInternal
	switch e.Code {
	case jsonrpc.CodeParse:
		d = deniedParse
	case jsonrpc.CodeInvalidRequest:
		d = deniedRequest
	case jsonrpc.CodeMethodNotFound:
		d, f.status = deniedMethod, http.StatusNotFound
	case jsonrpc.CodeInvalidParams:
		d = deniedParams
	default:
		f.status = http.StatusInternalServerError
	}
	f.label = denials()[d]
	return f
}

func deniedFault(e *deniedError) fault {
	f := fault{rpc: jsonrpc.Error{Code: jsonrpc.CodeInternal, Data: e.data}, label: denials()[e.denial]}
	switch e.denial {
	case deniedParse:
		f.rpc.Code, f.rpc.Message, f.status = jsonrpc.CodeParse, "Parse error", http.StatusBadRequest
	case deniedRequest:
		f.rpc.Code, f.rpc.Message, f.status = jsonrpc.CodeInvalidRequest, "Invalid Request", http.StatusBadRequest
	case deniedParams:
		f.rpc.Code, f.rpc.Message, f.status = jsonrpc.CodeInvalidParams, "Invalid params", http.StatusBadRequest
	case deniedMethod:
		f.rpc.Code, f.rpc.Message, f.status = jsonrpc.CodeMethodNotFound, "Method not found: "+e.data, http.StatusNotFound
		f.rpc.Data = ""
	case deniedSignature:
		f.rpc.Message, f.status = "Invalid signature", http.StatusBadRequest
	case deniedRate, deniedIPRate, deniedIPBytes:
		f.rpc.Message, f.status, f.retry = "Rate limited", http.StatusTooManyRequests, retryAfter
	case deniedShed, deniedGate, deniedBodyBytes:
		f.rpc.Message, f.status, f.retry = "Overloaded", http.StatusServiceUnavailable, retryAfter
	case deniedFull, deniedClosed:
		f.rpc.Message, f.status, f.retry = "Disk full", http.StatusServiceUnavailable, retryAfter
	case deniedSlowBody:
		f.rpc.Message, f.status = "Request timeout", http.StatusRequestTimeout
	case deniedTooLarge:
		f.rpc.Message, f.status = "length limit exceeded", http.StatusRequestEntityTooLarge
	case deniedMark:
		f.rpc.Message, f.status = "Invalid replay credential", http.StatusForbidden
	case deniedStatus:
		f.rpc.Code, f.rpc.Message, f.status, f.retry = codeNoStatus, "Order status unavailable", http.StatusServiceUnavailable, retryAfter
	case deniedUnavailable, deniedInternal:
		f.rpc.Message, f.status, f.retry = "Internal error", http.StatusServiceUnavailable, retryAfter
	}
	return f
}
