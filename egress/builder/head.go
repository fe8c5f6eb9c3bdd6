package builder

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"millrace/egress"
)

// Headers of a request to a builder.
const (
	HeaderPriority  = "X-BuilderNet-Priority"
	HeaderSentAt    = "X-BuilderNet-SentAtUs" // µs since 1970
	HeaderSignature = "X-Flashbots-Signature"
	HeaderRepeat    = "X-Millrace-Repeat" // "1": this builder may have had the order before
)

var errTraceparent = errors.New("traceparent is no header value")

// head is what is the same in the head of every request to one builder.
type head struct {
	before []byte // the request line, Host and User-Agent
	after  []byte // what follows the length
}

// newHead has net/http write it, so that its rules for hosts, paths and values hold. The user of u
// becomes basic authentication.
func newHead(u *url.URL) (*head, error) {
	r := &http.Request{
		Method: http.MethodPost, URL: u, Host: u.Host,
		Header: http.Header{"Content-Type": {"application/json"}, "User-Agent": {"millrace"}},
	}
	if u.User != nil {
		password, _ := u.User.Password()
		auth := base64.StdEncoding.EncodeToString([]byte(u.User.Username() + ":" + password))
		r.Header.Set("Authorization", "Basic "+auth)
	}
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		return nil, err
	}
	before, after, _ := bytes.Cut(b.Bytes(), []byte("Content-Length: 0\r\n"))
	return &head{before: before, after: bytes.TrimSuffix(after, []byte("\r\n"))}, nil
}

// append adds the head of one request to b: FlowProxy's, with our signature.
func (h *head) append(b []byte, a egress.Attempt, signature string, now time.Time) []byte {
	o := a.Order
	b = append(b, h.before...)
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(o.Body)), 10)
	b = append(b, "\r\n"...)
	b = append(b, h.after...)
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
	return append(b, "\r\n"...)
}

func appendHeader(b []byte, name, value string) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// isValue reports whether s can't end a header line: it comes from the store, so from elsewhere.
func isValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}
