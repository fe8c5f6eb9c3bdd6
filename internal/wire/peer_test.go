package wire

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/wire/scripted"
)

// answering is a peer that says yes to everything, and on which connection it was asked.
func answering(t *testing.T, most int) (p *peered, used chan int) {
	t.Helper()
	used = make(chan int, 1024)
	p = newPeer(t, scripted.Serve(t, func(s *scripted.Conn) {
		for s.Request() != nil {
			used <- s.Number
			s.Say(yes)
		}
	}))
	p.cfg.MaxConns = most
	return p, used
}

// settled requires that b's connections are n idle ones and nothing else.
func settled(t *testing.T, p *peered, n int) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Len(t, p.idle, n)
	require.Equal(t, n, p.open)
	require.Zero(t, p.making)
	require.Empty(t, p.waiting)
}

func waiting(p *peered) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting)
}

func TestConnectionsAreCappedAndReused(t *testing.T) {
	const most = 3
	var open, highest atomic.Int64
	p := newPeer(t, scripted.Serve(t, func(s *scripted.Conn) {
		n := open.Add(1)
		defer open.Add(-1)
		for h := highest.Load(); n > h && !highest.CompareAndSwap(h, n); h = highest.Load() {
		}
		for s.Request() != nil {
			s.Say(yes)
		}
	}))
	p.cfg.MaxConns, p.timeout = most, time.Minute
	results := make(chan told)
	for range 200 {
		go func() { results <- ask(p) }()
	}
	for range 200 {
		require.NoError(t, (<-results).err)
	}
	require.LessOrEqual(t, highest.Load(), int64(most))
	require.NoError(t, ask(p).err)
	require.LessOrEqual(t, p.open, most)
}

func TestWhoWaitsForAConnectionWaitsUntilItsTimeIsUp(t *testing.T) {
	asked, release := make(chan int, 3), make(chan struct{})
	p := newPeer(t, scripted.Serve(t, func(s *scripted.Conn) {
		for s.Request() != nil {
			asked <- s.Number
			<-release
			s.Say(yes)
		}
	}))
	p.cfg.MaxConns, p.timeout = 1, time.Minute
	results := make(chan told, 3)
	go func() { results <- ask(p) }()
	require.Equal(t, 1, <-asked)

	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan told)
	go func() { given <- p.call(ctx, p.request([]byte("{}"))) }()
	require.Eventually(t, func() bool { return waiting(p) == 1 }, 20*time.Second, time.Millisecond)
	cancel()
	r := <-given
	require.Error(t, r.err)
	require.Equal(t, "context canceled", r.text())
	require.Zero(t, r.Bytes)
	_, err := p.Take(t.Context(), time.Now().Add(time.Millisecond))
	require.ErrorIs(t, err, context.DeadlineExceeded)

	for range 2 {
		go func() { results <- ask(p) }()
	}
	require.Eventually(t, func() bool { return waiting(p) == 2 }, 20*time.Second, time.Millisecond)
	close(release)
	for range 3 {
		require.NoError(t, (<-results).err)
	}
	require.Equal(t, []int{1, 1}, []int{<-asked, <-asked})
	settled(t, p, 1)
	_, err = p.Take(t.Context(), time.Now())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	settled(t, p, 1)
}

// A call neither waits for a handshake when another's connection comes free, nor takes a handshake
// with it when its time is up.
func TestAConnectionIsMadeForWhoeverWaitsThen(t *testing.T) {
	p, used := answering(t, 8)
	p.timeout = time.Minute
	dial, dials, hold := p.dial, atomic.Int64{}, make(chan struct{})
	p.dial = func(ctx context.Context) (net.Conn, error) {
		if dials.Add(1) == 1 {
			return dial(ctx)
		}
		<-hold
		return dial(ctx)
	}
	first, err := p.Take(t.Context(), time.Now().Add(time.Minute))
	require.NoError(t, err)
	results := make(chan told)
	go func() { results <- ask(p) }()
	require.Eventually(t, func() bool { return dials.Load() == 2 }, 20*time.Second, time.Millisecond)
	p.Put(first)
	require.NoError(t, (<-results).err, "on the first connection, the second is not there")

	first, err = p.Take(t.Context(), time.Now().Add(time.Minute))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { results <- p.call(ctx, p.request([]byte("{}"))) }()
	require.Eventually(t, func() bool { return waiting(p) == 1 }, 20*time.Second, time.Millisecond)
	cancel()
	require.Error(t, (<-results).err)
	close(hold)
	require.Eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.making == 0
	}, 20*time.Second, time.Millisecond)
	require.NoError(t, ask(p).err)
	require.Equal(t, int64(2), dials.Load(), "it serves the next call")
	p.Put(first)
	require.Equal(t, []int{1, 2}, []int{<-used, <-used})
	settled(t, p, 2)
}

func TestEachFailedDialFailsOneCall(t *testing.T) {
	p, _ := answering(t, 2)
	p.timeout = time.Minute
	dial, broken := p.dial, atomic.Bool{}
	refused := errors.New("refused")
	broken.Store(true)
	p.dial = func(ctx context.Context) (net.Conn, error) {
		if broken.Load() {
			return nil, refused
		}
		return dial(ctx)
	}
	results := make(chan told)
	for range 10 {
		go func() { results <- ask(p) }()
	}
	for range 10 {
		r := <-results
		require.Error(t, r.err)
		require.Equal(t, "refused", r.text())
		require.Zero(t, r.Bytes)
	}
	settled(t, p, 0)
	broken.Store(false)
	require.NoError(t, ask(p).err)
	settled(t, p, 1)
}

func TestTheConnectionThatWasUsedLastIsUsedNext(t *testing.T) {
	p, used := answering(t, 8)
	var cs []*Conn
	for range 3 {
		c, err := p.Take(t.Context(), time.Now().Add(time.Minute))
		require.NoError(t, err)
		cs = append(cs, c)
	}
	for _, c := range cs {
		p.Put(c)
	}
	last := p.idle[2]
	for range 3 {
		require.NoError(t, ask(p).err)
		require.Same(t, last, p.idle[2])
	}
	n := <-used
	require.Equal(t, []int{n, n}, []int{<-used, <-used})
}

func TestIdleConnectionsAreGivenUpWithoutARequest(t *testing.T) {
	p, _ := answering(t, 8)
	p.cfg.IdleTimeout = 20 * time.Millisecond
	dialed, closed := count(p)
	var cs []*Conn
	for range 4 {
		c, err := p.Take(t.Context(), time.Now().Add(time.Minute))
		require.NoError(t, err)
		cs = append(cs, c)
	}
	p.Put(cs[0])
	p.Put(cs[1])
	require.Eventually(t, func() bool { return closed.Load() == 2 }, 20*time.Second, time.Millisecond)
	settledBut(t, p, 2)
	p.Put(cs[2]) // the sweeper begins again
	p.Put(cs[3])
	require.Eventually(t, func() bool { return closed.Load() == 4 }, 20*time.Second, time.Millisecond)
	settled(t, p, 0)
	require.Equal(t, int64(4), dialed.Load())
}

// settledBut requires that p has n connections, none of them idle.
func settledBut(t *testing.T, p *peered, n int) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Empty(t, p.idle)
	require.Equal(t, n, p.open)
}

func TestAConnectionInUseIsClosedAfterItsRequestOnceThePeerIsClosed(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	p := newPeer(t, scripted.Serve(t, func(s *scripted.Conn) {
		s.Request()
		close(asked)
		<-release
		s.Say(yes)
		s.UntilEnd()
	}))
	_, closed := count(p)
	results := make(chan told)
	go func() { results <- ask(p) }()
	<-asked
	p.Close()
	close(release)
	require.NoError(t, (<-results).err)
	require.Equal(t, int64(1), closed.Load())
	settled(t, p, 0)
}

// What a peer says on an idle connection is the answer to nothing.
func TestBytesThatNobodyAskedForAreNoAnswer(t *testing.T) {
	requests := make(chan int, 2)
	p := newPeer(t, scripted.Serve(t, func(s *scripted.Conn) {
		s.Request()
		requests <- s.Number
		if s.Number == 1 {
			s.Say(no)
			s.Say(yes)
			s.UntilEnd()
		}
		s.Say(no)
	}))
	require.Equal(t, 503, ask(p).Status)
	require.Eventually(t, func() bool { return len(p.idle) == 0 || idleEnded(p) == 1 }, 20*time.Second, time.Millisecond)
	require.Equal(t, 503, ask(p).Status)
	require.Equal(t, []int{1, 2}, []int{<-requests, <-requests})
}

// cutter is a connection that ends before the next request's first byte, once it is armed.
type cutter struct {
	*net.TCPConn
	armed *atomic.Bool
}

func (c cutter) SetDeadline(t time.Time) error {
	if c.armed.CompareAndSwap(true, false) {
		_ = c.CloseWrite() // as after a reset: nothing can be written
	}
	return c.TCPConn.SetDeadline(t)
}

func TestOnlyWhatWasNotWrittenAtAllIsTriedOnAnotherConnection(t *testing.T) {
	p, used := answering(t, 8)
	dial, dials, armed := p.dial, 0, &atomic.Bool{}
	p.dial = func(ctx context.Context) (net.Conn, error) {
		dials++
		c, err := dial(ctx)
		return cutter{c.(*net.TCPConn), armed}, err
	}
	require.NoError(t, ask(p).err)
	armed.Store(true)
	r := ask(p)
	require.NoError(t, r.err)
	require.False(t, r.Reused)
	require.Equal(t, []int{1, 2}, []int{<-used, <-used})
	require.Equal(t, 2, dials)
	settled(t, p, 1)

	p.Drop(t.Context(), p.idle[0])
	p.idle = nil
	armed.Store(true)
	r = ask(p)
	require.Error(t, r.err, "a new connection that fails is the peer's fault")
	require.Zero(t, r.Bytes)
	require.Equal(t, 3, dials)
	settled(t, p, 0)
}
