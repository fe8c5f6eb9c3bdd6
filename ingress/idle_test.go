package ingress

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/doortest"
)

// closing is a connection of a client; its end is counted.
type closing struct {
	net.Conn
	closed *atomic.Int64
	once   sync.Once
}

func (c *closing) Close() error {
	c.once.Do(func() { c.closed.Add(1) })
	return c.Conn.Close()
}

// openIdle runs a door with another idle timeout than the one that clients know of.
func openIdle(t *testing.T, idle time.Duration) *door {
	t.Helper()
	b, cfg := newBus(), testConfig()
	cfg.BodyTimeout = 2 * time.Second // ends a connection that a client dialed and then did not need
	s, err := New(cfg, b.ports(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	require.Equal(t, 30*time.Second, s.idle)
	s.idle = idle
	d := &door{Server: s, t: t, bus: b, stop: doortest.Run(t, s)}
	t.Cleanup(func() { d.client.CloseIdleConnections() })
	<-b.heard
	return d
}

// warm gives the door's client an idle timeout and counts its connections.
func (d *door) warm(idle time.Duration) (dialed, closed *atomic.Int64) {
	dialed, closed = &atomic.Int64{}, &atomic.Int64{}
	d.client = &http.Client{Transport: &http.Transport{
		IdleConnTimeout: idle, MaxIdleConnsPerHost: 64, MaxConnsPerHost: 64,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			dialed.Add(1)
			return &closing{Conn: c, closed: closed}, nil
		},
	}}
	return dialed, closed
}

// burst sends 48 orders at once; each must be accepted.
func (d *door) burst(round int) {
	d.t.Helper()
	answers := make(chan int, 48)
	for i := range cap(answers) {
		go func() {
			body := rawTx(uint64(1 + round*cap(answers) + i))
			a, err := d.try(d.t.Context(), body, signed(d.t, keyOf(1), body))
			if err != nil {
				d.t.Log(err)
			}
			answers <- a.status
		}()
	}
	for range cap(answers) {
		require.Equal(d.t, http.StatusOK, <-answers)
	}
}

func TestBurstAfterTheDoorClosedIdleConnectionsCostsNoOrder(t *testing.T) {
	t.Parallel()
	d := openIdle(t, time.Second) // longer than a burst takes
	dialed, closed := d.warm(time.Minute)
	for round := range 2 {
		d.burst(round)
		require.Eventually(t, func() bool { return closed.Load() == dialed.Load() }, 20*time.Second, time.Millisecond,
			"all %d are idle beyond the door's timeout", dialed.Load())
	}
	d.burst(2)
	require.Len(t, d.bus.orders(), 3*48)
}

// Clients that keep to 28 s close before the door does, which waits for 30 s: whenever the burst comes.
func TestBurstAroundTheClientsIdleTimeoutCostsNoOrder(t *testing.T) {
	t.Parallel()
	const theirs = 40 * time.Millisecond
	d := openIdle(t, time.Minute)
	_, closed := d.warm(theirs)
	round := 0
	for phase := theirs - 20*time.Millisecond; phase <= theirs+20*time.Millisecond; phase += 5 * time.Millisecond {
		d.burst(round)
		round++
		<-time.After(phase) // a schedule, not a wait for something
	}
	d.burst(round)
	require.Positive(t, closed.Load(), "some bursts came after it")
	require.Len(t, d.bus.orders(), (round+1)*48)
}
