package doortest

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience is for what takes moments.
const patience = 10 * time.Second

// Door is what a test runs.
type Door interface {
	Run(ctx context.Context) error
	Addr() net.Addr
}

// Run runs d until the test ends, and returns once it listens. The function ends Run before that and has its error;
// an error fails the test in any case.
func Run(tb testing.TB, d Door) (stop func() error) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	tb.Cleanup(func() { require.NoError(tb, stop()) })
	require.Eventually(tb, func() bool { return d.Addr() != nil }, patience, time.Millisecond)
	return stop
}

// Dial opens a plain connection to d until the test ends.
func Dial(tb testing.TB, d Door) net.Conn {
	tb.Helper()
	conn, err := (&net.Dialer{}).DialContext(tb.Context(), "tcp", d.Addr().String())
	require.NoError(tb, err)
	tb.Cleanup(func() { conn.Close() })
	return conn
}

// Log is a log as text.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Logger writes everything into l.
func (l *Log) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
