package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"millrace/egress"
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
	head      *head
	timeout   time.Duration
	busyCodes map[int]bool
	signer    *Signer
	clock     Clock
	conns     *conns
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
	b := &Builder{
		head: h, timeout: t.Timeout, busyCodes: map[int]bool{}, signer: s, clock: clock,
		conns: newConns(u, inFlight+spareConns),
	}
	for _, code := range busyCodes {
		b.busyCodes[code] = true
	}
	return b, nil
}

// CloseIdle closes connections that nobody uses, once the builder is gone from the configuration;
// those in use are closed after their request.
func (b *Builder) CloseIdle() { b.conns.close() }

// Send makes one request.
func (b *Builder) Send(ctx context.Context, a egress.Attempt) egress.Result {
	deadline := time.Now().Add(b.timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	signature, err := b.signer.Sign(a.Order)
	if err == nil && !isValue(a.Order.Traceparent) {
		err = errTraceparent
	}
	for err == nil {
		var c *conn
		if c, err = b.conns.take(ctx, deadline); err != nil {
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
func (b *Builder) exchange(ctx context.Context, c *conn, a egress.Attempt, signature string) (r egress.Result, stale bool) {
	stop := context.AfterFunc(ctx, c.interrupt)
	reuse := false
	defer func() {
		// Once the interruption has begun, it may come at any time: also to the next request.
		if stop() && reuse {
			b.conns.put(c)
		} else {
			b.conns.drop(ctx, c)
		}
	}()
	c.head = b.head.append(c.head[:0], a, signature, b.clock.Now())
	first := time.Now()
	n, unwritten := c.write(a.Order.Body)
	if n == 0 {
		first = time.Time{}
	}
	r = egress.Result{Verdict: egress.Unreachable, FirstByte: first}
	if unwritten != nil && (n == 0 || isTimeout(unwritten)) {
		r.Text = plainly(ctx, unwritten).Error()
		return r, c.used && !isTimeout(unwritten)
	}
	res, answer, err := c.answer() //nolint:bodyclose // Close would read an endless body to its end
	switch {
	case res != nil: // also when the builder hung up on the body: it can't have it, but may say why
		r = b.judge(res, answer, plainly(ctx, err))
		r.FirstByte = first
		reuse = unwritten == nil && c.intact
	case unwritten != nil:
		r.Text = unwritten.Error()
	default:
		r.Verdict, r.Text = egress.Lost, plainly(ctx, err).Error()
	}
	return r, false
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// plainly says what a deadline of a connection stands for: the end of ctx, or of the time that one
// request has.
func plainly(ctx context.Context, err error) error {
	switch {
	case !isTimeout(err):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		return context.DeadlineExceeded
	}
}
