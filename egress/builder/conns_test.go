package builder

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/egress"
)

// answering is a builder that says yes to everything, and on which connection it was asked.
func answering(t *testing.T, most int) (b *Builder, used chan int) {
	t.Helper()
	used = make(chan int, 1024)
	b = newBuilder(t, scripted(t, func(p *peer) {
		for p.request() != nil {
			used <- p.number
			p.say(yes)
		}
	}))
	b.conns.most = most
	return b, used
}

// settled requires that b's connections are n idle ones and nothing else.
func settled(t *testing.T, b *Builder, n int) {
	t.Helper()
	b.conns.mu.Lock()
	defer b.conns.mu.Unlock()
	require.Len(t, b.conns.idle, n)
	require.Equal(t, n, b.conns.open)
	require.Zero(t, b.conns.making)
	require.Empty(t, b.conns.waiting)
}

func waiting(b *Builder) int {
	b.conns.mu.Lock()
	defer b.conns.mu.Unlock()
	return len(b.conns.waiting)
}

func TestConnectionsAreCappedAndReused(t *testing.T) {
	b := newBuilder(t, "http://127.0.0.1:1")
	require.Equal(t, 8+spareConns, b.conns.most)
	require.Equal(t, 28*time.Second, b.conns.idleAfter)

	const most = 3
	var open, highest atomic.Int64
	b = newBuilder(t, scripted(t, func(p *peer) {
		n := open.Add(1)
		defer open.Add(-1)
		for h := highest.Load(); n > h && !highest.CompareAndSwap(h, n); h = highest.Load() {
		}
		for p.request() != nil {
			p.say(yes)
		}
	}))
	b.conns.most, b.timeout = most, time.Minute
	results := make(chan egress.Result)
	for range 200 {
		go func() { results <- send(b) }()
	}
	for range 200 {
		require.Equal(t, egress.Accepted, (<-results).Verdict)
	}
	require.LessOrEqual(t, highest.Load(), int64(most))
	require.Equal(t, egress.Accepted, send(b).Verdict)
	require.LessOrEqual(t, b.conns.open, most)
}

func TestWhoWaitsForAConnectionWaitsUntilItsTimeIsUp(t *testing.T) {
	asked, release := make(chan int, 3), make(chan struct{})
	b := newBuilder(t, scripted(t, func(p *peer) {
		for p.request() != nil {
			asked <- p.number
			<-release
			p.say(yes)
		}
	}))
	b.conns.most, b.timeout = 1, time.Minute
	results := make(chan egress.Result, 3)
	go func() { results <- send(b) }()
	require.Equal(t, 1, <-asked)

	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan egress.Result)
	go func() { given <- b.Send(ctx, egress.Attempt{Order: anOrder(), Number: 1}) }()
	require.Eventually(t, func() bool { return waiting(b) == 1 }, 20*time.Second, time.Millisecond)
	cancel()
	r := <-given
	require.Equal(t, egress.Unreachable, r.Verdict)
	require.Equal(t, "context canceled", r.Text)
	require.True(t, r.FirstByte.IsZero())
	_, err := b.conns.take(t.Context(), time.Now().Add(time.Millisecond))
	require.ErrorIs(t, err, context.DeadlineExceeded)

	for range 2 {
		go func() { results <- send(b) }()
	}
	require.Eventually(t, func() bool { return waiting(b) == 2 }, 20*time.Second, time.Millisecond)
	close(release)
	for range 3 {
		require.Equal(t, egress.Accepted, (<-results).Verdict)
	}
	require.Equal(t, []int{1, 1}, []int{<-asked, <-asked})
	settled(t, b, 1)
	_, err = b.conns.take(t.Context(), time.Now())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	settled(t, b, 1)
}

// An order neither waits for a handshake when another's connection comes free, nor takes a handshake
// with it when its time is up.
func TestAConnectionIsMadeForWhoeverWaitsThen(t *testing.T) {
	b, used := answering(t, 8)
	b.timeout = time.Minute
	dial, dials, hold := b.conns.dial, atomic.Int64{}, make(chan struct{})
	b.conns.dial = func(ctx context.Context) (net.Conn, error) {
		if dials.Add(1) == 1 {
			return dial(ctx)
		}
		<-hold
		return dial(ctx)
	}
	first, err := b.conns.take(t.Context(), time.Now().Add(time.Minute))
	require.NoError(t, err)
	results := make(chan egress.Result)
	go func() { results <- send(b) }()
	require.Eventually(t, func() bool { return dials.Load() == 2 }, 20*time.Second, time.Millisecond)
	b.conns.put(first)
	require.Equal(t, egress.Accepted, (<-results).Verdict, "on the first connection, the second is not there")

	first, err = b.conns.take(t.Context(), time.Now().Add(time.Minute))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { results <- b.Send(ctx, egress.Attempt{Order: anOrder(), Number: 1}) }()
	require.Eventually(t, func() bool { return waiting(b) == 1 }, 20*time.Second, time.Millisecond)
	cancel()
	require.Equal(t, egress.Unreachable, (<-results).Verdict)
	close(hold)
	require.Eventually(t, func() bool {
		b.conns.mu.Lock()
		defer b.conns.mu.Unlock()
		return b.conns.making == 0
	}, 20*time.Second, time.Millisecond)
	require.Equal(t, egress.Accepted, send(b).Verdict)
	require.Equal(t, int64(2), dials.Load(), "it serves the next order")
	b.conns.put(first)
	require.Equal(t, []int{1, 2}, []int{<-used, <-used})
	settled(t, b, 2)
}

func TestEachFailedDialFailsOneOrder(t *testing.T) {
	b, _ := answering(t, 2)
	b.timeout = time.Minute
	dial, broken := b.conns.dial, atomic.Bool{}
	refused := errors.New("refused")
	broken.Store(true)
	b.conns.dial = func(ctx context.Context) (net.Conn, error) {
		if broken.Load() {
			return nil, refused
		}
		return dial(ctx)
	}
	results := make(chan egress.Result)
	for range 10 {
		go func() { results <- send(b) }()
	}
	for range 10 {
		r := <-results
		require.Equal(t, egress.Unreachable, r.Verdict)
		require.Equal(t, "refused", r.Text)
		require.True(t, r.FirstByte.IsZero())
	}
	settled(t, b, 0)
	broken.Store(false)
	require.Equal(t, egress.Accepted, send(b).Verdict)
	settled(t, b, 1)
}

func TestTheConnectionThatWasUsedLastIsUsedNext(t *testing.T) {
	b, used := answering(t, 8)
	var cs []*conn
	for range 3 {
		c, err := b.conns.take(t.Context(), time.Now().Add(time.Minute))
		require.NoError(t, err)
		cs = append(cs, c)
	}
	for _, c := range cs {
		b.conns.put(c)
	}
	last := b.conns.idle[2]
	for range 3 {
		require.Equal(t, egress.Accepted, send(b).Verdict)
		require.Same(t, last, b.conns.idle[2])
	}
	n := <-used
	require.Equal(t, []int{n, n}, []int{<-used, <-used})
}

func TestIdleConnectionsAreGivenUpWithoutARequest(t *testing.T) {
	b, _ := answering(t, 8)
	b.conns.idleAfter = 20 * time.Millisecond
	dialed, closed := count(b)
	var cs []*conn
	for range 4 {
		c, err := b.conns.take(t.Context(), time.Now().Add(time.Minute))
		require.NoError(t, err)
		cs = append(cs, c)
	}
	b.conns.put(cs[0])
	b.conns.put(cs[1])
	require.Eventually(t, func() bool { return closed.Load() == 2 }, 20*time.Second, time.Millisecond)
	settledBut(t, b, 2)
	b.conns.put(cs[2]) // the sweeper begins again
	b.conns.put(cs[3])
	require.Eventually(t, func() bool { return closed.Load() == 4 }, 20*time.Second, time.Millisecond)
	settled(t, b, 0)
	require.Equal(t, int64(4), dialed.Load())
}

// settledBut requires that b has n connections, none of them idle.
func settledBut(t *testing.T, b *Builder, n int) {
	t.Helper()
	b.conns.mu.Lock()
	defer b.conns.mu.Unlock()
	require.Empty(t, b.conns.idle)
	require.Equal(t, n, b.conns.open)
}

func TestAConnectionInUseIsClosedAfterItsRequestOnceTheBuilderIsGone(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	b := newBuilder(t, scripted(t, func(p *peer) {
		p.request()
		close(asked)
		<-release
		p.say(yes)
		p.untilEnd()
	}))
	_, closed := count(b)
	results := make(chan egress.Result)
	go func() { results <- send(b) }()
	<-asked
	b.CloseIdle()
	close(release)
	require.Equal(t, egress.Accepted, (<-results).Verdict)
	require.Equal(t, int64(1), closed.Load())
	settled(t, b, 0)
}

// What a builder says on an idle connection is the answer to nothing.
func TestBytesThatNobodyAskedForAreNoAnswer(t *testing.T) {
	requests := make(chan int, 2)
	b := newBuilder(t, scripted(t, func(p *peer) {
		p.request()
		requests <- p.number
		if p.number == 1 {
			p.say(no)
			p.say(yes)
			p.untilEnd()
		}
		p.say(no)
	}))
	require.Equal(t, egress.Busy, send(b).Verdict)
	require.Eventually(t, func() bool { return len(b.conns.idle) == 0 || idleEnded(b) == 1 }, 20*time.Second, time.Millisecond)
	require.Equal(t, egress.Busy, send(b).Verdict)
	require.Equal(t, []int{1, 2}, []int{<-requests, <-requests})
}

// hook is a clock that is looked at right before a request is written.
type hook struct{ before func() }

func (h hook) Now() time.Time {
	h.before()
	return time.Now()
}

// The builder's end of a connection may come between the last look at it and the first byte.
func TestRule15OnlyWhatWasNotWrittenAtAllIsTriedOnAnotherConnection(t *testing.T) {
	b, used := answering(t, 8)
	dial, dials := b.conns.dial, 0
	var latest *net.TCPConn
	b.conns.dial = func(ctx context.Context) (net.Conn, error) {
		dials++
		c, err := dial(ctx)
		latest, _ = c.(*net.TCPConn)
		return c, err
	}
	require.Equal(t, egress.Accepted, send(b).Verdict)
	cut := true
	b.clock = hook{func() {
		if cut {
			require.NoError(t, latest.CloseWrite()) // as after a reset: nothing can be written
			cut = false
		}
	}}
	r := send(b)
	require.Equal(t, egress.Accepted, r.Verdict, r.Text)
	require.Equal(t, []int{1, 2}, []int{<-used, <-used})
	require.Equal(t, 2, dials)
	settled(t, b, 1)

	b.conns.drop(t.Context(), b.conns.idle[0])
	b.conns.idle = nil
	cut = true
	r = send(b)
	require.Equal(t, egress.Unreachable, r.Verdict, "a new connection that fails is the builder's fault")
	require.True(t, r.FirstByte.IsZero())
	require.Equal(t, 3, dials)
	settled(t, b, 0)
}
