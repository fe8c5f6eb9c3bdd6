package wire

import (
	"cmp"
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

// Peer is the other side of calls: the connections to one URL's host. There are at most MaxConns of them, those
// being made included; who wants one more waits for it, in turn. The one that was used last is used next,
// so that those beyond what is needed grow old, and go at IdleTimeout.
//
// A connection is made by a goroutine of its own, that ends with ConnectTimeout at the latest, and for
// whoever waits longest when it is there: a call neither waits for a handshake when another's connection
// comes free, nor takes a handshake with it when its time is up.
type Peer struct {
	cfg  Config
	dial func(context.Context) (net.Conn, error)
	tls  *tls.Config // nil: plain HTTP

	mu      sync.Mutex
	idle    []*Conn      // the one that was used last is at the end; empty when somebody waits
	waiting []chan grant // who waits longest is first; each is given one grant
	open    int          // connections, and those being made
	making  int          // those being made
	closing bool         // nothing is kept any more
	sweeper *time.Timer  // runs while there are idle ones
}

// grant ends a wait.
type grant struct {
	c   *Conn
	err error
}

// New returns the peer at the host of u, http or https. It dials on the first call. Errors are of cfg, and
// wrap ErrConfig.
func New(u *url.URL, cfg Config) (*Peer, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	host, port := u.Hostname(), u.Port()
	if strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII }) {
		if ascii, err := idna.Lookup.ToASCII(host); err == nil {
			host = ascii
		}
	}
	p := &Peer{cfg: cfg, dial: cfg.Dial}
	switch u.Scheme {
	case "http":
		port = cmp.Or(port, "80")
	case "https":
		port = cmp.Or(port, "443")
		p.tls = secured(cfg.TLS, host)
	default:
		return nil, fmt.Errorf("%w: neither http nor https", ErrConfig)
	}
	if host == "" {
		return nil, fmt.Errorf("%w: no host", ErrConfig)
	}
	if p.dial == nil {
		d := &net.Dialer{Timeout: cfg.ConnectTimeout, KeepAlive: cfg.KeepAlive}
		address := net.JoinHostPort(host, port)
		p.dial = func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", address) }
	}
	return p, nil
}

// secured completes the caller's configuration.
func secured(c *tls.Config, host string) *tls.Config {
	if c == nil {
		c = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	c = c.Clone()
	c.ServerName = cmp.Or(c.ServerName, host)
	if c.NextProtos == nil {
		c.NextProtos = []string{"http/1.1"}
	}
	// Small records are for readers that can use half a message. A request is of use as a whole.
	c.DynamicRecordSizingDisabled = true
	return c
}

// Stats is what a peer's connections do at a moment.
type Stats struct {
	Open    int // connections, and those being made
	Making  int // those being made
	Idle    int // those that nobody uses
	Waiting int // calls that wait for one
}

// Stats counts the connections.
func (p *Peer) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Stats{Open: p.open, Making: p.making, Idle: len(p.idle), Waiting: len(p.waiting)}
}

// Take returns a connection for one request that ends at deadline; zero: with ctx alone. It is the caller's
// until Put or Drop. A connection that the peer has given up is not returned.
func (p *Peer) Take(ctx context.Context, deadline time.Time) (*Conn, error) {
	for ctx.Err() == nil {
		now := time.Now()
		if !deadline.IsZero() && !now.Before(deadline) {
			return nil, context.DeadlineExceeded // and no connection is to blame
		}
		c, w := p.pick(ctx)
		if c == nil {
			var err error
			if c, err = p.await(ctx, w, deadline); err != nil {
				return nil, err
			}
		}
		if c.ready(now.Add(-p.cfg.IdleTimeout), deadline) {
			return c, nil
		}
		p.Drop(ctx, c)
	}
	return nil, context.Cause(ctx)
}

// pick returns an idle connection, or where the next one will be handed out.
func (p *Peer) pick(ctx context.Context) (*Conn, chan grant) {
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
func (p *Peer) await(ctx context.Context, w chan grant, deadline time.Time) (*Conn, error) {
	var late <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		late = timer.C
	}
	var err error
	select {
	case g := <-w:
		return g.c, g.err
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-late:
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
			p.Put(g.c)
		}
	}
	return nil, err
}

// Put gives c back for the next request; only if its last answer was read to the end (Reusable). What was borrowed
// of it is no longer the caller's.
func (p *Peer) Put(c *Conn) {
	c.rest()
	p.offer(c, 0)
}

// offer hands c to who waits, or keeps it; made counts the connections that were being made until now.
func (p *Peer) offer(c *Conn, made int) {
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

// Drop ends c.
func (p *Peer) Drop(ctx context.Context, c *Conn) {
	c.end()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	p.grow(ctx)
}

// hand gives to who waits longest, if somebody does; mu is held.
func (p *Peer) hand(g grant) bool {
	if len(p.waiting) == 0 {
		return false
	}
	p.waiting[0] <- g
	p.waiting = slices.Delete(p.waiting, 0, 1)
	return true
}

// keep makes c idle, and sees to it that it does not stay so; mu is held.
func (p *Peer) keep(c *Conn) bool {
	if p.closing {
		return false
	}
	c.used = true
	p.idle = append(p.idle, c)
	if p.sweeper == nil {
		p.sweeper = time.AfterFunc(p.cfg.IdleTimeout, p.sweep)
	}
	return true
}

// grow makes connections for those who wait, as far as there may be more; mu is held. It is not ended
// by the call that caused it: another one will use it, and a peer whose handshake takes longer than a
// call has time would never be reached.
func (p *Peer) grow(ctx context.Context) {
	for p.making < len(p.waiting) && p.open < p.cfg.MaxConns {
		p.open++
		p.making++
		go p.join(context.WithoutCancel(ctx))
	}
}

// join makes one connection.
func (p *Peer) join(ctx context.Context) {
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

func (p *Peer) connect(ctx context.Context) (*Conn, error) {
	tcp, err := p.dial(ctx)
	if err != nil {
		return nil, err
	}
	nc := tcp
	if p.tls != nil {
		t := tls.Client(tcp, p.tls)
		shaking, cancel := context.WithTimeout(ctx, p.cfg.ConnectTimeout)
		err := t.HandshakeContext(shaking)
		cancel()
		if err != nil {
			tcp.Close()
			return nil, fmt.Errorf("tls handshake: %w", err)
		}
		nc = t
	}
	c, err := newConn(nc, tcp, &p.cfg)
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	return c, nil
}

// sweep retires what has been idle for too long, and comes again for what is left.
func (p *Peer) sweep() {
	p.mu.Lock()
	now, n := time.Now(), 0
	for n < len(p.idle) && now.Sub(p.idle[n].since) >= p.cfg.IdleTimeout {
		n++
	}
	old := slices.Clone(p.idle[:n])
	p.idle = slices.Delete(p.idle, 0, n)
	p.open -= n
	p.sweeper = nil
	if len(p.idle) > 0 {
		p.sweeper = time.AfterFunc(p.cfg.IdleTimeout-now.Sub(p.idle[0].since), p.sweep)
	}
	p.mu.Unlock()
	for _, c := range old {
		c.retire()
	}
}

// Close ends what is idle; what is in use ends with its request.
func (p *Peer) Close() {
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
