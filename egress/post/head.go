package post

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"millrace/egress"
	"millrace/internal/wire"
)

// Headers of a request.
const (
	HeaderPriority  = "X-BuilderNet-Priority"
	HeaderSentAt    = "X-BuilderNet-SentAtUs" // µs since 1970
	HeaderSignature = "X-Flashbots-Signature"
	HeaderRepeat    = "X-Millrace-Repeat" // "1": this receiver may have had the order before
)

var errTraceparent = errors.New("traceparent is no header value")

// head is what is the same in the head of every request to one receiver.
type head struct{ *wire.Head }

func newHead(u *url.URL) (head, error) {
	h, err := wire.NewHead(http.MethodPost, u, http.Header{"Content-Type": {"application/json"}, "User-Agent": {"millrace"}})
	return head{h}, err
}

// append adds the head of one request to b: FlowProxy's, with our signature.
func (h head) append(b []byte, a egress.Attempt, signature string, now time.Time) []byte {
	o := a.Order
	b = h.Append(b, len(o.Body))
	if o.Traceparent != "" {
		b = appendHeader(b, "Traceparent", o.Traceparent)
	}
	b = appendHeader(b, HeaderPriority, o.Priority.String())
	b = append(b, HeaderSentAt+": "...)
	b = strconv.AppendInt(b, now.UnixMicro(), 10)
	b = append(b, "\r\n"...)
	b = appendHeader(b, HeaderSignature, signature)
	if a.Repeat || a.Number > 1 {
		b = appendHeader(b, HeaderRepeat, "1")
	}
	return wire.AppendEnd(b)
}

// appendHeader leaves out what is no header's value: of ours none is, and the traceparent was looked at.
func appendHeader(b []byte, name, value string) []byte {
	b, _ = wire.AppendHeader(b, name, value)
	return b
}
