package builder

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/net/idna"
)

// conns are the connections to one builder. There are at most `most` of them, those being made
// included; who wants one more waits for it, in turn. The one that was used last is used next, so that
// those beyond what is needed grow old, and go at idleAfter.
//
// A connection is made by a goroutine of its own, that ends with connectTimeout at the latest, and for
// whoever waits longest when it is there: an order neither waits for a handshake when another's
// connection comes free, nor takes a handshake with it when its time is up.
type conns struct {
	most      int
	idleAfter time.Duration
	dial      func(context.Context) (net.Conn, error)
	tls       *tls.Config // nil: plain HTTP

	mu      sync.Mutex
	idle    []*conn      // the one that was used last is at the end; empty when somebody waits
	waiting []chan grant // who waits longest is first; each is given one grant
	open    int          // connections, and those being made
	making  int          // those being made
	closing bool         // nothing is kept any more
	sweeper *time.Timer  // runs while there are idle ones
}

// grant ends a wait.
type grant struct {
	c   *conn
	err error
}

func newConns(u *url.URL, most int) *conns {
	host, port := u.Hostname(), u.Port()
	if strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII }) {
		if ascii, err := idna.Lookup.ToASCII(host); err == nil {
			host = ascii
		}
	}
	p := &conns{most: most, idleAfter: idleTimeout}
	if u.Scheme == "https" {
		p.tls = &tls.Config{
			ServerName: host, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
			// Small records are for readers that can use half an answer. A request is of use as a whole.
			DynamicRecordSizingDisabled: true,
		}
	}
	switch {
	case port != "":
	case p.tls != nil:
		port = "443"
	default:
		port = "80"
	}
	d := &net.Dialer{Timeout: connectTimeout, KeepAlive: keepAlive}
	address := net.JoinHostPort(host, port)
	p.dial = func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", address) }
	return p
}

// take returns a connection for one request that ends at deadline. It is the caller's until put or
// drop. A connection that the builder has given up is not returned.
func (p *conns) take(ctx context.Context, deadline time.Time) (*conn, error) {
	for ctx.Err() == nil {
		now := time.Now()
		if !now.Before(deadline) {
			return nil, context.DeadlineExceeded // and no connection is to blame
		}
		c, w := p.pick(ctx)
		if c == nil {
			var err error
			if c, err = p.await(ctx, w, deadline); err != nil {
				return nil, err
			}
		}
		if c.ready(now.Add(-p.idleAfter), deadline) {
			return c, nil
		}
		p.drop(ctx, c)
	}
	return nil, context.Cause(ctx)
}

// pick returns an idle connection, or where the next one will be handed out.
func (p *conns) pick(ctx context.Context) (*conn, chan grant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := len(p.idle) - 1; last >= 0 {
		c := p.idle[last]
		p.idle[last] = nil
		p.idle = p.idle[:last]
		return c, nil
	}
	w := make(chan grant, 1)
	p.waiting = append(p.waiting, w)
	p.grow(ctx)
	return nil, w
}

// await waits for w's grant.
func (p *conns) await(ctx context.Context, w chan grant, deadline time.Time) (*conn, error) {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	var err error
	select {
	case g := <-w:
		return g.c, g.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-timer.C:
		err = context.DeadlineExceeded
	}
	p.mu.Lock()
	i := slices.Index(p.waiting, w)
	if i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
	p.mu.Unlock()
	if i < 0 {
		if g := <-w; g.c != nil {
			p.put(g.c)
		}
	}
	return nil, err
}

// put gives c back for the next request.
func (p *conns) put(c *conn) {
	c.used = true
	p.offer(c, 0)
}

// offer hands c to who waits, or keeps it; made counts the connections that were being made until now.
func (p *conns) offer(c *conn, made int) {
	c.since = time.Now()
	p.mu.Lock()
	p.making -= made
	taken := p.hand(grant{c: c}) || p.keep(c)
	if !taken {
		p.open--
	}
	p.mu.Unlock()
	if !taken {
		c.retire()
	}
}

// drop ends c.
func (p *conns) drop(ctx context.Context, c *conn) {
	c.end()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	p.grow(ctx)
}

// hand gives to who waits longest, if somebody does; mu is held.
func (p *conns) hand(g grant) bool {
	if len(p.waiting) == 0 {
		return false
	}
	p.waiting[0] <- g
	p.waiting = slices.Delete(p.waiting, 0, 1)
	return true
}

// keep makes c idle, and sees to it that it does not stay so; mu is held.
func (p *conns) keep(c *conn) bool {
	if p.closing {
		return false
	}
	c.used = true
	p.idle = append(p.idle, c)
	if p.sweeper == nil {
		p.sweeper = time.AfterFunc(p.idleAfter, p.sweep)
	}
	return true
}

// grow makes connections for those who wait, as far as there may be more; mu is held. It is not ended
// by the order that caused it: another one will use it, and a builder whose handshake takes longer
// than an order has time would never be reached.
func (p *conns) grow(ctx context.Context) {
	for p.making < len(p.waiting) && p.open < p.most {
		p.open++
		p.making++
		go p.join(context.WithoutCancel(ctx))
	}
}

// join makes one connection.
func (p *conns) join(ctx context.Context) {
	c, err := p.connect(ctx)
	if err == nil {
		p.offer(c, 1)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	p.making--
	p.hand(grant{err: err})
	p.grow(ctx)
}

func (p *conns) connect(ctx context.Context) (*conn, error) {
	tcp, err := p.dial(ctx)
	if err != nil {
		return nil, err
	}
	nc := tcp
	if p.tls != nil {
		t := tls.Client(tcp, p.tls)
		shaking, cancel := context.WithTimeout(ctx, connectTimeout)
		err := t.HandshakeContext(shaking)
		cancel()
		if err != nil {
			tcp.Close()
			return nil, fmt.Errorf("tls handshake: %w", err)
		}
		nc = t
	}
	c, err := newConn(nc, tcp)
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	return c, nil
}

// sweep retires what has been idle for too long, and comes again for what is left.
func (p *conns) sweep() {
	p.mu.Lock()
	now, n := time.Now(), 0
	for n < len(p.idle) && now.Sub(p.idle[n].since) >= p.idleAfter {
		n++
	}
	old := slices.Clone(p.idle[:n])
	p.idle = slices.Delete(p.idle, 0, n)
	p.open -= n
	p.sweeper = nil
	if len(p.idle) > 0 {
		p.sweeper = time.AfterFunc(p.idleAfter-now.Sub(p.idle[0].since), p.sweep)
	}
	p.mu.Unlock()
	for _, c := range old {
		c.retire()
	}
}

// close ends what is idle; what is in use ends with its request.
func (p *conns) close() {
	p.mu.Lock()
	old := p.idle
	p.idle, p.closing = nil, true
	p.open -= len(old)
	if p.sweeper != nil {
		p.sweeper.Stop()
	}
	p.mu.Unlock()
	for _, c := range old {
		c.retire()
	}
}
