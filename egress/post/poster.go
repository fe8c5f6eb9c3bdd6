package post

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/url"
	"os"
	"time"

	"millrace/egress"
	"millrace/internal/wire"
)

const (
	connectTimeout = 800 * time.Millisecond // and as much again for the TLS handshake
	keepAlive      = 15 * time.Second
	// idleTimeout is below every receiver's: a connection is given up here before it is there, so
	// that a burst after a quiet spell costs no failed request.
	idleTimeout = 28 * time.Second
	// maxAnswer bounds what is read of an answer, its headers and its body; more is cut off with its
	// connection.
	maxAnswer = 64 << 10
	// spareConns is what a target loop may use beyond egress.in_flight: one slot per class.
	spareConns = 4
)

// Clock is the bus clock.
type Clock interface {
	Now() time.Time
}

// Config says how to speak to one receiver.
type Config struct {
	// URL is where orders are posted, http or https.
	URL *url.URL
	// Timeout is how long one request may take.
	Timeout time.Duration
	// InFlight is the loop's bound of requests on the wire; connections are capped accordingly.
	InFlight int
	// BusyCodes are JSON-RPC error codes that mean "not now", and BusyTexts beginnings of messages that do.
	BusyCodes []int
	BusyTexts []string
	// TLS is for https; nil: TLS 1.2 or newer, the system's authorities.
	TLS *tls.Config
}

// Poster sends orders to one receiver. It is an egress.Sender.
type Poster struct {
	cfg       Config
	head      head
	busyCodes map[int]bool
	signer    *Signer
	clock     Clock
	peer      *wire.Peer
}

// New returns a poster; it dials on the first order. No error repeats the URL: it may hold a password.
func New(c Config, s *Signer, clock Clock) (*Poster, error) {
	h, err := newHead(c.URL)
	if err != nil {
		return nil, err
	}
	p, err := wire.New(c.URL, wireConfig(c.InFlight, c.TLS))
	if err != nil {
		return nil, err
	}
	b := &Poster{cfg: c, head: h, busyCodes: map[int]bool{}, signer: s, clock: clock, peer: p}
	for _, code := range c.BusyCodes {
		b.busyCodes[code] = true
	}
	return b, nil
}

// ParseURL reads the URL of a receiver. It never repeats what it was given: a URL may hold a password.
func ParseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, errors.New("not an http or https url with a host")
	}
	return u, nil
}

// wireConfig is for a loop with so many requests on the wire.
func wireConfig(inFlight int, t *tls.Config) wire.Config {
	return wire.Config{
		MaxConns: inFlight + spareConns, IdleTimeout: idleTimeout, ConnectTimeout: connectTimeout, KeepAlive: keepAlive,
		MaxHead: maxAnswer, MaxBody: maxAnswer, TLS: t,
	}
}

// CloseIdle closes connections that nobody uses, once the receiver is gone from the configuration;
// those in use are closed after their request.
func (p *Poster) CloseIdle() { p.peer.Close() }

// Send makes one request with the order's own body.
func (p *Poster) Send(ctx context.Context, a egress.Attempt) egress.Result {
	return p.Post(ctx, a, FormBuilder)
}

// Post makes one request with an order that has its body in a form.
func (p *Poster) Post(ctx context.Context, a egress.Attempt, f Form) egress.Result {
	deadline := time.Now().Add(p.cfg.Timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	signature, err := p.signer.Sign(a.Order.Accept, f, a.Order.Body)
	if err == nil && !wire.ValidValue(a.Order.Traceparent) {
		err = errTraceparent // it comes from the store, so from elsewhere
	}
	for err == nil {
		var c *wire.Conn
		if c, err = p.peer.Take(ctx, deadline); err != nil {
			break
		}
		if r, stale := p.exchange(ctx, c, a, signature); !stale {
			return r
		}
	}
	return egress.Result{Verdict: egress.Unreachable, Text: err.Error()}
}

// exchange makes the request on c, and gives c back. Stale: the other side had given the connection up
// and not a byte was written, so that another connection may be tried.
func (p *Poster) exchange(ctx context.Context, c *wire.Conn, a egress.Attempt, signature string) (r egress.Result, stale bool) {
	stop := c.Watch(ctx)
	reuse := false
	defer func() {
		if stop() && reuse {
			p.peer.Put(c)
		} else {
			p.peer.Drop(ctx, c)
		}
	}()
	c.Head = p.head.append(c.Head[:0], a, signature, p.clock.Now())
	first := time.Now()
	n, unwritten := c.Write(a.Order.Body)
	if n == 0 {
		first = time.Time{}
	}
	r = egress.Result{Verdict: egress.Unreachable, FirstByte: first}
	late := errors.Is(unwritten, os.ErrDeadlineExceeded)
	if unwritten != nil && (n == 0 || late) {
		r.Text = wire.Plainly(ctx, unwritten).Error()
		return r, c.Used() && !late
	}
	answer, err := c.Answer(http.MethodPost)
	if errors.Is(err, wire.ErrTooLarge) {
		err = nil // what was read of it has to do
	}
	switch {
	case answer.Status != 0: // also when the other side hung up on the body: it can't have it, but may say why
		r = p.judge(answer, wire.Plainly(ctx, err))
		r.FirstByte = first
		reuse = unwritten == nil && c.Reusable()
	case unwritten != nil:
		r.Text = unwritten.Error()
	default:
		r.Verdict, r.Text = egress.Lost, wire.Plainly(ctx, err).Error()
	}
	return r, false
}
