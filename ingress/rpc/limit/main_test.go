package limit

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hub is a gossip in memory that takes a moment.
type hub struct {
	mu    sync.Mutex
	ears  map[int]func([]byte)
	next  int
	told  int
	delay time.Duration
	err   error
}

var errHub = errors.New("no hub")

func newHub() *hub { return &hub{ears: map[int]func([]byte){}, delay: time.Millisecond} }

func (h *hub) Tell(b []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return h.err
	}
	h.told++
	time.AfterFunc(h.delay, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, f := range h.ears {
			f(b)
		}
	})
	return nil
}

func (h *hub) Hear(f func([]byte)) (func(), error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return nil, h.err
	}
	n := h.next
	h.next++
	h.ears[n] = f
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.ears, n)
	}, nil
}

func (h *hub) messages() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.told
}

func limiter(tb testing.TB, cfg Config, g Gossip) *Limiter {
	tb.Helper()
	l, err := New(cfg, g, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(tb, err)
	return l
}

// run runs a limiter until stop is called.
func run(t *testing.T, l *Limiter) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return func() {
		cancel()
		require.NoError(t, <-done)
	}
}

func rate(tb testing.TB, s string) Rate {
	tb.Helper()
	r, err := ParseRate(s)
	require.NoError(tb, err)
	return r
}

var client = netip.MustParseAddr("192.0.2.1")
