package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// Config says how to talk to a peer.
type Config struct {
	// MaxConns is how many connections there may be, those being made included; at least one.
	MaxConns int
	// IdleTimeout is how long a connection is kept that nobody uses. It should be shorter than the peer's, so
	// that a burst after a quiet spell costs no failed request.
	IdleTimeout time.Duration
	// ConnectTimeout is how long making a connection may take, and as much again the TLS handshake.
	ConnectTimeout time.Duration
	// KeepAlive is the interval of TCP's own probes; 0: the system's usual one.
	KeepAlive time.Duration
	// MaxHead bounds the headers of an answer, those before it (1xx) included, bytes.
	MaxHead int
	// MaxBody bounds the body of an answer, bytes: one that is as long without an end in sight is too large.
	MaxBody int
	// TLS is for https. Nil: TLS 1.2 or newer, the system's authorities. What it does not say of the server's name
	// and the protocol is filled in, in a copy.
	TLS *tls.Config
	// Dial makes the connection below TLS, which must have a descriptor (syscall.Conn); nil: TCP to the URL's host.
	Dial func(context.Context) (net.Conn, error)
}

// ErrConfig wraps every fault that New finds.
var ErrConfig = errors.New("invalid wire configuration")

func (c *Config) validate() error {
	var errs []error
	positive := func(name string, n int64) {
		if n <= 0 {
			errs = append(errs, fmt.Errorf("%w: %s must be positive", ErrConfig, name))
		}
	}
	positive("MaxConns", int64(c.MaxConns))
	positive("IdleTimeout", int64(c.IdleTimeout))
	positive("ConnectTimeout", int64(c.ConnectTimeout))
	positive("MaxHead", int64(c.MaxHead))
	positive("MaxBody", int64(c.MaxBody))
	return errors.Join(errs...)
}
