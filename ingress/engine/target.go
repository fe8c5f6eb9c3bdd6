package engine

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"millrace/internal/engineapi"
)

// Limits of talking to a target.
const (
	dialTimeout     = 5 * time.Second
	targetIdle      = 28 * time.Second // below what servers allow, so that we close first
	targetIdleConns = 64
	targetBuffer    = 32 << 10
	// maxAnswer is the largest answer that is passed on, bytes: above geth's own bound for batches.
	maxAnswer = 256 << 20
)

// Target is an execution client that can be the primary.
type Target struct {
	Name string
	URL  string
	// JWTSecret is the file with the client's secret; it may be empty where tokens are forwarded.
	JWTSecret string
	// CA is a PEM file with the authorities that may vouch for an https URL; empty: the system's.
	CA string
}

// target is a Target with its connections.
type target struct {
	Target
	url    *url.URL
	secret engineapi.Secret // zero: none
	client http.RoundTripper

	// Under the dispatcher's mu.
	moving int           // live state-moving calls without an answer yet
	still  chan struct{} // closed when moving is 0 again; nil while nobody waits
}

// newTarget reads the target's files and dials nothing.
func newTarget(t Target) (*target, error) {
	u, err := parseURL(t.URL)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrConfig, t.Name, err)
	}
	out := &target{Target: t, url: u}
	if t.JWTSecret != "" {
		if out.secret, err = engineapi.LoadSecret(t.JWTSecret); err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name, err)
		}
	}
	// Execution clients sit behind proxies of any age, so not 1.3 alone.
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("%s: read certificate authorities: %w", t.Name, err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: %s: no certificate in %s", ErrConfig, t.Name, t.CA)
		}
	}
	out.client = &http.Transport{
		DialContext:         dial,
		TLSClientConfig:     conf,
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConns:        targetIdleConns,
		MaxIdleConnsPerHost: targetIdleConns,
		IdleConnTimeout:     targetIdle,
		DisableCompression:  true,
		WriteBufferSize:     targetBuffer,
		ReadBufferSize:      targetBuffer,
	}
	return out, nil
}

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return wholeConn{c}, nil
}

// wholeConn writes a body that is in memory at once. The transport would copy it in pieces of 32 KiB,
// which for a payload of today is several system calls.
type wholeConn struct{ net.Conn }

// ReadFrom is how the transport writes a body.
func (c wholeConn) ReadFrom(r io.Reader) (int64, error) {
	if l, ok := r.(*io.LimitedReader); ok {
		if b, ok := l.R.(*bytes.Reader); ok && int64(b.Len()) <= l.N {
			n, err := b.WriteTo(c.Conn)
			l.N -= n
			return n, err
		}
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}

func (t *target) close() {
	if c, ok := t.client.(*http.Transport); ok {
		c.CloseIdleConnections()
	}
}

// message is what is sent to a target.
type message struct {
	method string
	header http.Header // without Authorization
	body   []byte
	// authorization is the caller's, passed on; empty: the target's own secret signs one.
	authorization string
	// once says that it must not be sent again when a byte of it has left.
	once bool
}

// maxPooled is the largest answer whose memory is used again, bytes.
const maxPooled = 4 << 20

var answers = sync.Pool{New: func() any { return new([]byte) }} //nolint:gochecknoglobals // a pool is shared by nature

// answer is what came back. Its body is valid until release.
type answer struct {
	status int
	header http.Header
	body   []byte
	pooled *[]byte
	views  [][]byte // its parts, once they were asked for, see views
}

// sendError is why there is no answer.
type sendError struct {
	err error
	// stale says that a kept-alive connection was found closed before a byte of the answer came.
	stale bool
	// began says that the answer had begun.
	began bool
}

func (e *sendError) Error() string { return e.err.Error() }
func (e *sendError) Unwrap() error { return e.err }

// send makes one HTTP exchange. wrote is called, at least once and from any goroutine, when the
// request is written or never will be. An error is a *sendError.
func (t *target) send(ctx context.Context, m *message, wrote func()) (*answer, error) {
	defer wrote()
	var reused, began atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { reused.Store(i.Reused) },
		WroteRequest: func(i httptrace.WroteRequestInfo) {
			if i.Err == nil { // else the transport may try another connection
				wrote()
			}
		},
		GotFirstResponseByte: func() { began.Store(true) },
	})
	resp, err := t.client.RoundTrip(t.request(ctx, m))
	if err != nil {
		return nil, &sendError{err: err, stale: reused.Load() && !began.Load() && ctx.Err() == nil}
	}
	a := &answer{status: resp.StatusCode, header: resp.Header}
	err = a.read(resp)
	_ = resp.Body.Close() // read to its end, or given up
	if err != nil {
		a.release()
		return nil, &sendError{err: fmt.Errorf("read the answer: %w", err), began: true}
	}
	return a, nil
}

// request has headers of its own: the transport may still read them after the exchange.
func (t *target) request(ctx context.Context, m *message) *http.Request {
	h := make(http.Header, len(m.header)+2)
	maps.Copy(h, m.header)
	switch {
	case m.authorization != "":
		h["Authorization"] = []string{m.authorization}
	case !t.secret.IsZero():
		h["Authorization"] = []string{t.secret.Authorization(time.Now())}
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = []string{""} // the caller's absence is passed on too
	}
	u := *t.url
	r := &http.Request{
		Method: m.method, URL: &u, Host: u.Host, Header: h,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		ContentLength: int64(len(m.body)),
	}
	if m.once {
		// The transport takes these for leave to send it again by itself.
		delete(h, "Idempotency-Key")
		delete(h, "X-Idempotency-Key")
	}
	if len(m.body) > 0 {
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(m.body)), nil }
		r.Body, _ = r.GetBody()
	}
	if m.once && m.method != http.MethodPost {
		r.GetBody = nil // so it would with a GET or OPTIONS, which clients carry out like a POST
	}
	return r.WithContext(ctx)
}

// read takes the body into pooled memory.
func (a *answer) read(resp *http.Response) error {
	if resp.ContentLength > maxAnswer {
		return errTooLarge
	}
	a.pooled = answers.Get().(*[]byte) //nolint:forcetypeassert // holds nothing else
	b := (*a.pooled)[:0]
	defer func() { *a.pooled, a.body = b, b }()
	if n := int(resp.ContentLength); n >= cap(b) {
		b = make([]byte, 0, n+1)
	}
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := resp.Body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case len(b) > maxAnswer:
			return errTooLarge
		}
	}
}

// release gives the body's memory back, unless it is so much that it had better be collected.
func (a *answer) release() {
	if a.pooled == nil {
		return
	}
	if cap(*a.pooled) <= maxPooled {
		answers.Put(a.pooled)
	}
	a.pooled, a.body = nil, nil
}

// hopTable are the headers of one connection; they go no further.
var hopTable = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Authorization": true,
	"Proxy-Connection": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
}

// ownTable are those that each side of the door makes itself.
var ownTable = map[string]bool{
	"Accept-Encoding": true, "Authorization": true, "Content-Length": true, "Expect": true, "Host": true,
}

// endToEnd copies what is not about the connection from one side to the other.
func endToEnd(to, from http.Header) {
	for name, values := range from {
		if !hopTable[name] && !ownTable[name] {
			to[name] = values
		}
	}
	for _, line := range from["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			delete(to, textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)))
		}
	}
}
