package builder

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/egress"
)

// warmConns is how many connections go idle and how many requests come at once after it.
const warmConns = 48

// meeting is a builder that answers nobody before everybody is there, so that each request of a
// burst has a connection of its own.
type meeting struct {
	*httptest.Server
	mu      sync.Mutex
	waiting chan struct{}
	present int
}

func newMeeting(t *testing.T, idle time.Duration) *meeting {
	t.Helper()
	m := &meeting{waiting: make(chan struct{})}
	m.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		m.mu.Lock()
		all := m.waiting
		if m.present++; m.present == warmConns {
			m.present, m.waiting = 0, make(chan struct{})
			close(all)
		}
		m.mu.Unlock()
		select {
		case <-all:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":null}`)
	}))
	m.Config.IdleTimeout = idle
	m.Start()
	t.Cleanup(m.Close)
	return m
}

// counted is a connection whose end is counted.
type counted struct {
	*net.TCPConn
	closed *atomic.Int64
	once   sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.closed.Add(1) })
	return c.TCPConn.Close()
}

// count counts the connections that b makes, and those of them that have ended.
func count(b *Builder) (dialed, closed *atomic.Int64) {
	dialed, closed = &atomic.Int64{}, &atomic.Int64{}
	dial := b.conns.dial
	b.conns.dial = func(ctx context.Context) (net.Conn, error) {
		c, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		dialed.Add(1)
		return &counted{TCPConn: c.(*net.TCPConn), closed: closed}, nil
	}
	return dialed, closed
}

// pool is a builder with the given idle timeout.
func pool(t *testing.T, url string, idle time.Duration) (b *Builder, dialed, closed *atomic.Int64) {
	t.Helper()
	s, err := NewSigner("")
	require.NoError(t, err)
	b, err = New(Target{Name: "b", URL: url, Timeout: 20 * time.Second}, nil, s, wallClock{}, warmConns)
	require.NoError(t, err)
	t.Cleanup(b.CloseIdle)
	b.conns.idleAfter = idle
	dialed, closed = count(b)
	return b, dialed, closed
}

// idleEnded counts the idle connections of which the builder's end can be seen here.
func idleEnded(b *Builder) (n int64) {
	b.conns.mu.Lock()
	defer b.conns.mu.Unlock()
	for _, c := range b.conns.idle {
		if !c.ready(time.Time{}, time.Time{}) {
			n++
		}
	}
	return n
}

// burst sends as many orders at once as there are warm connections; none may fail.
func burst(t *testing.T, b *Builder) {
	t.Helper()
	results := make(chan egress.Result, warmConns)
	for range warmConns {
		go func() { results <- b.Send(t.Context(), egress.Attempt{Order: anOrder(), Number: 1}) }()
	}
	for range warmConns {
		r := <-results
		require.Equal(t, egress.Accepted, r.Verdict, r.Text)
	}
}

func TestBurstAfterThePeerClosedItsIdleConnectionsCostsNoRequest(t *testing.T) {
	m := newMeeting(t, 50*time.Millisecond)
	b, dialed, closed := pool(t, m.URL, idleTimeout)
	for n := range int64(4) {
		burst(t, b)
		require.Equal(t, (n+1)*warmConns, dialed.Load())
		require.Equal(t, n*warmConns, closed.Load(), "those of the burst before were not used again")
		require.Eventually(t, func() bool { return idleEnded(b) == warmConns }, 20*time.Second, time.Millisecond,
			"all %d are idle beyond the peer's timeout", warmConns)
	}
	burst(t, b)
}

// Our timeout is the shorter one, so the peer never closes under a request: at whatever moment around
// it the burst comes.
func TestBurstAroundOurOwnIdleTimeoutCostsNoRequest(t *testing.T) {
	const ours = 40 * time.Millisecond
	m := newMeeting(t, time.Minute)
	b, _, closed := pool(t, m.URL, ours)
	for phase := ours - 20*time.Millisecond; phase <= ours+20*time.Millisecond; phase += 4 * time.Millisecond {
		burst(t, b)
		<-time.After(phase) // a schedule, not a wait for something
	}
	burst(t, b)
	require.Positive(t, closed.Load(), "some bursts came after it")
	require.Less(t, idleTimeout, 30*time.Second, "what builders, and our own listeners, allow")
}
