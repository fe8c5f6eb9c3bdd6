package engine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"millrace/internal/engineapi"
	"millrace/internal/wire"
)

// Limits of talking to a target.
const (
	dialTimeout = 5 * time.Second
	targetIdle  = 28 * time.Second // below what servers allow, so that we close first
	// targetConns is how many calls may be under way to a target; others wait in turn. So many are only when it hangs.
	targetConns = 1024
	// maxAnswer is the largest answer that is passed on, bytes: above geth's own bound for batches.
	maxAnswer     = 256 << 20
	maxAnswerHead = 10 << 20
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

// caller makes one call to a target: its connections.
type caller interface {
	Do(ctx context.Context, deadline time.Time, r *wire.Request) (wire.Answer, wire.Sent, error)
}

// target is a Target with its connections.
type target struct {
	Target
	url    *url.URL
	head   *wire.Head       // of a POST
	secret engineapi.Secret // zero: none
	client caller

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
	if out.head, err = headOf(http.MethodPost, u); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrConfig, t.Name, err)
	}
	peer, err := wire.New(u, wire.Config{
		MaxConns: targetConns, IdleTimeout: targetIdle, ConnectTimeout: dialTimeout, TLS: conf, MaxHead: maxAnswerHead, MaxBody: maxAnswer,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrConfig, t.Name, err)
	}
	out.client = peer
	return out, nil
}

// headOf has nothing of our own: the caller's headers follow, and the absence of a User-Agent is passed on too.
func headOf(method string, u *url.URL) (*wire.Head, error) {
	return wire.NewHead(method, u, http.Header{"User-Agent": {""}})
}

func (t *target) close() {
	if p, ok := t.client.(*wire.Peer); ok {
		p.Close()
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

// maxPooled is the largest answer whose memory is used again, and maxPooledHead the largest head, bytes.
const (
	maxPooled     = 4 << 20
	maxPooledHead = 16 << 10
)

//nolint:gochecknoglobals // pools are shared by nature
var (
	answers = sync.Pool{New: func() any { return new([]byte) }}
	heads   = sync.Pool{New: func() any { return new([]byte) }}
)

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

// send makes one HTTP exchange. wrote is called, at least once, when the request is written or never will be.
// An error is a *sendError.
func (t *target) send(ctx context.Context, m *message, wrote func()) (*answer, error) {
	memory := heads.Get().(*[]byte) //nolint:forcetypeassert // holds nothing else
	defer func() {
		if cap(*memory) <= maxPooledHead {
			heads.Put(memory)
		}
	}()
	var err error
	if *memory, err = t.appendHead((*memory)[:0], m); err != nil {
		wrote()
		return nil, &sendError{err: err}
	}
	a := &answer{pooled: answers.Get().(*[]byte)} //nolint:forcetypeassert // holds nothing else
	got, sent, err := t.client.Do(ctx, time.Time{}, &wire.Request{
		Method: m.method, Head: *memory, Body: m.body, Into: *a.pooled, Wrote: wrote,
	})
	if got.Body != nil {
		*a.pooled = got.Body
	}
	if err != nil {
		a.release()
		if sent.Began {
			return nil, &sendError{err: fmt.Errorf("read the answer: %w", err), began: true}
		}
		return nil, &sendError{err: err, stale: sent.Reused && ctx.Err() == nil}
	}
	a.status, a.header, a.body = got.Status, got.Header, got.Body
	return a, nil
}

// appendHead appends the message's head to b.
func (t *target) appendHead(b []byte, m *message) ([]byte, error) {
	head := t.head
	if m.method != http.MethodPost {
		var err error
		if head, err = headOf(m.method, t.url); err != nil {
			return b, err
		}
	}
	b = head.Append(b, len(m.body))
	authorization := m.authorization
	if authorization == "" && !t.secret.IsZero() {
		authorization = t.secret.Authorization(time.Now())
	}
	var err error
	if authorization != "" {
		if b, err = wire.AppendHeader(b, "Authorization", authorization); err != nil {
			return b, err
		}
	}
	for name, values := range m.header {
		for _, value := range values {
			if b, err = wire.AppendHeader(b, name, value); err != nil {
				return b, fmt.Errorf("%w: %q", err, name)
			}
		}
	}
	return wire.AppendEnd(b), nil
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
