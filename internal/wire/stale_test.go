package wire

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
)

// warmConns is how many connections go idle and how many requests come at once after it.
const warmConns = 48

// meeting is a server that answers nobody before everybody is there, so that each request of a
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

// count counts the connections that p makes, and those of them that have ended.
func count(p *peered) (dialed, closed *atomic.Int64) {
	dialed, closed = &atomic.Int64{}, &atomic.Int64{}
	dial := p.dial
	p.dial = func(ctx context.Context) (net.Conn, error) {
		c, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		dialed.Add(1)
		return &counted{TCPConn: c.(*net.TCPConn), closed: closed}, nil
	}
	return dialed, closed
}

// pool is a peer with the given idle timeout.
func pool(t *testing.T, url string, idle time.Duration) (p *peered, dialed, closed *atomic.Int64) {
	t.Helper()
	p = newPeer(t, url, func(c *Config) { c.MaxConns, c.IdleTimeout = warmConns, idle })
	p.timeout = patience
	dialed, closed = count(p)
	return p, dialed, closed
}

// idleEnded counts the idle connections of which the peer's end can be seen here.
func idleEnded(p *peered) (n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		if !c.ready(time.Time{}, time.Time{}) {
			n++
		}
	}
	return n
}

// burst makes as many calls at once as there are warm connections; none may fail.
func burst(t *testing.T, p *peered) {
	t.Helper()
	results := make(chan told, warmConns)
	for range warmConns {
		go func() { results <- p.call(t.Context(), p.request([]byte("{}"))) }()
	}
	for range warmConns {
		r := <-results
		require.NoError(t, r.err)
	}
}

func TestBurstAfterThePeerClosedItsIdleConnectionsCostsNoRequest(t *testing.T) {
	m := newMeeting(t, 50*time.Millisecond)
	p, dialed, closed := pool(t, m.URL, 28*time.Second)
	for n := range int64(4) {
		burst(t, p)
		require.Equal(t, (n+1)*warmConns, dialed.Load())
		require.Equal(t, n*warmConns, closed.Load(), "those of the burst before were not used again")
		require.Eventually(t, func() bool { return idleEnded(p) == warmConns }, 20*time.Second, time.Millisecond,
			"all %d are idle beyond the peer's timeout", warmConns)
	}
	burst(t, p)
}

// Our timeout is the shorter one, so the peer never closes under a request: at whatever moment around
// it the burst comes.
func TestBurstAroundOurOwnIdleTimeoutCostsNoRequest(t *testing.T) {
	const ours = 40 * time.Millisecond
	m := newMeeting(t, time.Minute)
	p, _, closed := pool(t, m.URL, ours)
	for phase := ours - 20*time.Millisecond; phase <= ours+20*time.Millisecond; phase += 4 * time.Millisecond {
		burst(t, p)
		<-time.After(phase) // a schedule, not a wait for something
	}
	burst(t, p)
	require.Positive(t, closed.Load(), "some bursts came after it")
}
