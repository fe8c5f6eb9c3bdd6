package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"millrace/egress"
	"millrace/internal/wire"
)

const (
	connectTimeout = 800 * time.Millisecond // and as much again for the TLS handshake
	keepAlive      = 15 * time.Second
	// idleTimeout is below every builder's: a connection is given up here before it is there, so
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
	head      head
	timeout   time.Duration
	busyCodes map[int]bool
	signer    *Signer
	clock     Clock
	peer      *wire.Peer
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
	h, err := newHead(u)
	if err != nil {
		return nil, fmt.Errorf("builder %s: %w", t.Name, err)
	}
	p, err := wire.New(u, wireConfig(inFlight))
	if err != nil {
		return nil, fmt.Errorf("builder %s: %w", t.Name, err)
	}
	b := &Builder{head: h, timeout: t.Timeout, busyCodes: map[int]bool{}, signer: s, clock: clock, peer: p}
	for _, code := range busyCodes {
		b.busyCodes[code] = true
	}
	return b, nil
}

// wireConfig is for a loop with so many requests on the wire.
func wireConfig(inFlight int) wire.Config {
	return wire.Config{
		MaxConns: inFlight + spareConns, IdleTimeout: idleTimeout, ConnectTimeout: connectTimeout, KeepAlive: keepAlive,
		MaxHead: maxAnswer, MaxBody: maxAnswer,
	}
}

// CloseIdle closes connections that nobody uses, once the builder is gone from the configuration;
// those in use are closed after their request.
func (b *Builder) CloseIdle() { b.peer.Close() }

// Send makes one request.
func (b *Builder) Send(ctx context.Context, a egress.Attempt) egress.Result {
	deadline := time.Now().Add(b.timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	signature, err := b.signer.Sign(a.Order)
	if err == nil && !wire.ValidValue(a.Order.Traceparent) {
		err = errTraceparent // it comes from the store, so from elsewhere
	}
	for err == nil {
		var c *wire.Conn
		if c, err = b.peer.Take(ctx, deadline); err != nil {
			break
		}
		if r, stale := b.exchange(ctx, c, a, signature); !stale {
			return r
		}
	}
	return egress.Result{Verdict: egress.Unreachable, Text: err.Error()}
}

// exchange makes the request on c, and gives c back. Stale: the builder had given the connection up
// and not a byte was written, so that another connection may be tried.
func (b *Builder) exchange(ctx context.Context, c *wire.Conn, a egress.Attempt, signature string) (r egress.Result, stale bool) {
	stop := c.Watch(ctx)
	reuse := false
	defer func() {
		if stop() && reuse {
			b.peer.Put(c)
		} else {
			b.peer.Drop(ctx, c)
		}
	}()
	c.Head = b.head.append(c.Head[:0], a, signature, b.clock.Now())
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
	case answer.Status != 0: // also when the builder hung up on the body: it can't have it, but may say why
		r = b.judge(answer, wire.Plainly(ctx, err))
		r.FirstByte = first
		reuse = unwritten == nil && c.Reusable()
	case unwritten != nil:
		r.Text = unwritten.Error()
	default:
		r.Verdict, r.Text = egress.Lost, wire.Plainly(ctx, err).Error()
	}
	return r, false
}
