package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
)

// IdleTimeout is how long a kept-alive connection waits for its next request. Clients of ours use 28 s, so
// that they close first.
const IdleTimeout = 30 * time.Second

// maxHeader bounds the headers of a request, bytes.
const maxHeader = 16 << 10

// NewServer returns a server of h with what all doors have in common; it speaks HTTP/1.1. The caller adds deadlines
// for reading and writing.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	srv := &http.Server{ //nolint:gosec // the callers set ReadTimeout, which includes the headers
		Handler:        h,
		IdleTimeout:    IdleTimeout,
		MaxHeaderBytes: maxHeader,
		Protocols:      new(http.Protocols),
		// What it says is each client's fault: failed handshakes, broken framing.
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	srv.Protocols.SetHTTP1(true)
	return srv
}

// Listener is one address and the server behind it. Open it once, then Serve.
type Listener struct {
	what   string
	addr   atomic.Pointer[net.Addr]
	socket net.Listener
	server *http.Server
}

// New returns a Listener that is not open. What comes in through it is what errors call it: "orders".
func New(what string) *Listener { return &Listener{what: what} }

// Addr is the address once it is open, else nil.
func (l *Listener) Addr() net.Addr {
	if a := l.addr.Load(); a != nil {
		return *a
	}
	return nil
}

// Open takes the address for srv. No more than conns connections are open at a time; others wait to be accepted.
func (l *Listener) Open(ctx context.Context, address string, conns int, srv *http.Server) error {
	var lc net.ListenConfig
	socket, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for %s: %w", l.what, err)
	}
	l.socket, l.server = netutil.LimitListener(socket, conns), srv
	a := socket.Addr()
	l.addr.Store(&a)
	return nil
}

// Close gives up an address that was opened and is not served.
func (l *Listener) Close() error { return l.socket.Close() }

// Serve serves until Shutdown or Drain, with TLS if the server is configured for it. It is work for Run, and ends
// by no context: who is inside is let out first.
func (l *Listener) Serve(context.Context) error {
	var err error
	if l.server.TLSConfig != nil {
		err = l.server.ServeTLS(l.socket, "", "")
	} else {
		err = l.server.Serve(l.socket)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve %s: %w", l.what, err)
}
