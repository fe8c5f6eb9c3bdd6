package builder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"millrace/egress"
	"millrace/internal/order"
)

// Headers of a request to a builder.
const (
	HeaderPriority  = "X-BuilderNet-Priority"
	HeaderSentAt    = "X-BuilderNet-SentAtUs" // µs since 1970
	HeaderSignature = "X-Flashbots-Signature"
	HeaderRepeat    = "X-Millrace-Repeat" // "1": this builder may have had the order before
)

const (
	connectTimeout = 800 * time.Millisecond
	// idleTimeout is below every builder's: a connection is given up here before it is there, so
	// that a burst after a quiet spell costs no failed request.
	idleTimeout = 28 * time.Second
	// maxAnswer bounds what is read of an answer; more is cut off with its connection.
	maxAnswer = 64 << 10
	// spareConns is what a target loop may use beyond egress.in_flight: one slot per class.
	spareConns = 4
)

// Clock is the bus clock.
type Clock interface {
	Now() time.Time
}

// Destinations returns one egress destination per configured builder. inFlight is the loop's bound
// on requests on the wire; connections are capped accordingly. The signer is shared, so that an
// order is signed once for all of them.
func Destinations(c Config, s *Signer, clock Clock, inFlight int) ([]egress.Destination, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	var ds []egress.Destination
	for _, t := range c.Targets() {
		b, err := New(t, c.BusyCodes, s, clock, inFlight)
		if err != nil {
			return nil, err
		}
		ds = append(ds, egress.Destination{Name: t.Name, Fingerprint: Fingerprint(t.URL), Sender: b})
	}
	return ds, nil
}

// Fingerprint names a builder by its URL: scheme, host and path, hashed, without credentials and
// query, so that a rotated password is no other builder.
func Fingerprint(rawURL string) string {
	u, err := parseURL(rawURL)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256([]byte(u.Scheme + "://" + strings.ToLower(u.Host) + strings.TrimSuffix(u.EscapedPath(), "/")))
	return hex.EncodeToString(sum[:8])
}

// Builder sends orders to one builder. It is an egress.Sender.
type Builder struct {
	url       *url.URL
	auth      string
	timeout   time.Duration
	busyCodes map[int]bool
	signer    *Signer
	clock     Clock
	transport *http.Transport
}

// New returns the sender for one builder; it dials on the first order.
func New(t Target, busyCodes []int, s *Signer, clock Clock, inFlight int) (*Builder, error) {
	if err := t.validate(); err != nil {
		return nil, err
	}
	u, err := parseURL(t.URL)
	if err != nil {
		return nil, fmt.Errorf("builder %s: %w", t.Name, err)
	}
	b := &Builder{
		url: u, timeout: t.Timeout, busyCodes: map[int]bool{}, signer: s, clock: clock,
		transport: newTransport(inFlight + spareConns),
	}
	if u.User != nil {
		password, _ := u.User.Password()
		b.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))
		u.User = nil
	}
	for _, code := range busyCodes {
		b.busyCodes[code] = true
	}
	return b, nil
}

func newTransport(conns int) *http.Transport {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return &http.Transport{
		DialContext:            (&net.Dialer{Timeout: connectTimeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:    connectTimeout,
		Protocols:              p,
		MaxConnsPerHost:        conns,
		MaxIdleConns:           conns,
		MaxIdleConnsPerHost:    conns,
		IdleConnTimeout:        idleTimeout,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxAnswer,
		WriteBufferSize:        32 << 10,
	}
}

// CloseIdle closes connections that nobody uses, once the builder is gone from the configuration.
func (b *Builder) CloseIdle() { b.transport.CloseIdleConnections() }

// Send makes one request.
func (b *Builder) Send(ctx context.Context, a egress.Attempt) egress.Result {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	var w wire
	req, err := b.request(httptrace.WithClientTrace(ctx, w.trace()), a)
	if err != nil {
		return egress.Result{Verdict: egress.Unreachable, Text: err.Error()}
	}
	res, err := b.transport.RoundTrip(req)
	if err != nil {
		return w.failed(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	r := b.judge(res, answer, err)
	r.FirstByte = w.firstByte()
	return r
}

// request is FlowProxy's request with our signature. The body is the order's, byte for byte.
func (b *Builder) request(ctx context.Context, a egress.Attempt) (*http.Request, error) {
	o := a.Order
	signature, err := b.signer.Sign(o)
	if err != nil {
		return nil, err
	}
	h := http.Header{
		"Content-Type":  {"application/json"},
		HeaderPriority:  {o.Priority.String()},
		HeaderSentAt:    {strconv.FormatInt(b.clock.Now().UnixMicro(), 10)},
		HeaderSignature: {signature},
		"User-Agent":    {"millrace"},
	}
	if a.Repeat || a.Number > 1 {
		h[HeaderRepeat] = []string{"1"}
	}
	if o.Traceparent != "" {
		h["Traceparent"] = []string{o.Traceparent}
	}
	if b.auth != "" {
		h["Authorization"] = []string{b.auth}
	}
	r := &http.Request{
		Method: http.MethodPost, URL: b.url, Host: b.url.Host, Header: h,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: int64(len(o.Body)),
		Body:          bodyOf(o),
		GetBody:       func() (io.ReadCloser, error) { return bodyOf(o), nil },
	}
	return r.WithContext(ctx), nil
}

func bodyOf(o *order.Order) io.ReadCloser { return io.NopCloser(bytes.NewReader(o.Body)) }

// wire follows one request through the transport, whose goroutines may outlive the call.
type wire struct {
	gotConn     atomic.Int64 // ns since 1970, zero: no connection was had
	writeFailed atomic.Bool
}

func (w *wire) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) {
			w.gotConn.Store(time.Now().UnixNano())
			w.writeFailed.Store(false) // another try of the transport's own
		},
		WroteRequest: func(i httptrace.WroteRequestInfo) { w.writeFailed.Store(i.Err != nil) },
	}
}

// firstByte is when the request was handed to a connection, right before its first byte.
func (w *wire) firstByte() time.Time {
	if ns := w.gotConn.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

// failed says what an error without an answer means: when a connection took the request and did not
// say that writing failed, the builder may have it.
func (w *wire) failed(err error) egress.Result {
	r := egress.Result{Verdict: egress.Unreachable, Text: err.Error(), FirstByte: w.firstByte()}
	if !r.FirstByte.IsZero() && !w.writeFailed.Load() {
		r.Verdict = egress.Lost
	}
	return r
}
