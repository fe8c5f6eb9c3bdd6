package ingress

import (
	"encoding/hex"
	"net/http"
	"strconv"
	"time"

	"millrace/internal/jsonrpc"
	"millrace/internal/order"
)

const contentTypeJSON = "application/json"

// refuse answers a request that failed as a whole.
func (s *Server) refuse(w http.ResponseWriter, q *request, err error) {
	f := faultOf(err)
	s.metrics.reject(f.label)
	if f.status == http.StatusRequestEntityTooLarge {
		http.Error(w, f.rpc.Message, f.status)
		return
	}
	q.out = jsonrpc.AppendError(q.out[:0], nil, &f.rpc)
	s.write(w, q, &f)
}

// answer writes the outcome of q's calls: one response, or a batch of them with HTTP status 200.
func (s *Server) answer(w http.ResponseWriter, q *request) {
	overall := fault{status: http.StatusOK}
	q.out = q.out[:0]
	if q.batch {
		q.out = append(q.out, '[')
	}
	for i := range q.calls {
		if i > 0 {
			q.out = append(q.out, ',')
		}
		f := s.appendOutcome(q, &q.calls[i])
		switch {
		case !q.batch:
			overall = f
		case f.retry > overall.retry:
			overall.retry = f.retry
		}
	}
	if q.batch {
		q.out = append(q.out, ']')
	}
	s.write(w, q, &overall)
}

// appendOutcome appends c's response to q.out and counts it.
func (s *Server) appendOutcome(q *request, c *call) fault {
	if c.err != nil {
		f := faultOf(c.err)
		s.metrics.reject(f.label)
		q.out = jsonrpc.AppendError(q.out, c.id, &f.rpc)
		return f
	}
	if c.asked != nil {
		q.out = jsonrpc.AppendResult(q.out, c.id, c.result)
		return fault{status: http.StatusOK}
	}
	o := &c.order
	s.metrics.accepted[o.Priority][o.Method].Inc()
	q.entity.accepted(q.received)
	var buf [160]byte
	q.out = jsonrpc.AppendResult(q.out, c.id, appendResult(buf[:0], o))
	return fault{status: http.StatusOK}
}

// appendResult appends the result of an accepted order: a transaction's hash, or the bundle's
// hash with the time of receipt in milliseconds, to the microsecond.
func appendResult(dst []byte, o *order.Order) []byte {
	switch o.Method {
	case order.MethodSendRawTransaction, order.MethodSendPrivateTransaction, order.MethodSendPrivateRawTransaction:
		return append(hex.AppendEncode(append(dst, `"0x`...), o.Hash[:]), '"')
	default:
	}
	dst = hex.AppendEncode(append(dst, `{"bundleHash":"0x`...), o.Hash[:])
	dst = append(dst, `","receivedTimestampMs":`...)
	us := o.ReceivedAt.UnixMicro()
	dst = strconv.AppendInt(dst, us/1000, 10)
	if rest := us % 1000; rest != 0 {
		dst = append(dst, '.', byte('0'+rest/100), byte('0'+rest/10%10), byte('0'+rest%10))
	}
	return append(dst, '}')
}

// write sends q.out with f's status, or with 200 in dialect v1.
func (s *Server) write(w http.ResponseWriter, q *request, f *fault) {
	h := w.Header()
	h["Content-Type"] = s.jsonType
	if f.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(int(f.retry/time.Second)))
	}
	status := f.status
	if q.policy.Dialect == DialectV1 {
		status = http.StatusOK
	}
	if f.status != http.StatusOK && len(q.calls) == 0 && q.body.data == nil {
		h.Set("Connection", "close") // the body was not read; don't wait for it
	}
	w.WriteHeader(status)
	_, _ = w.Write(q.out) // the client went away; the order is stored all the same
}
