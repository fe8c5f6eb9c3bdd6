package regions

import (
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

const (
	patience = 20 * time.Second
	tick     = 5 * time.Millisecond
)

var there = Pair{"a", "b"}

// near is two nodes with the given conditions between them.
func near(c Conditions) Topology {
	return Topology{
		Regions: map[string]Conditions{"a": {}, "b": {}}, Nodes: map[string]string{"a": "a", "b": "b"},
		Links: []Line{{Between: []string{"a", "b"}, Conditions: c}},
	}
}

// node is a listener that hands its connections to the test.
type node struct {
	ln    net.Listener
	conns chan net.Conn
}

func newNode(t *testing.T) *node {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", anyPort)
	require.NoError(t, err)
	n := &node{ln: ln, conns: make(chan net.Conn, 16)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			n.conns <- c
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-ended
		for len(n.conns) > 0 {
			_ = (<-n.conns).Close()
		}
	})
	return n
}

// accept waits for the far end of a connection.
func (n *node) accept(t *testing.T) net.Conn {
	t.Helper()
	select {
	case c := <-n.conns:
		t.Cleanup(func() { _ = c.Close() })
		require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
		return c
	case <-time.After(patience):
		require.Fail(t, "nobody connected")
		return nil
	}
}

// start runs a network whose node b is n.
func start(t *testing.T, top Topology, n *node) *Network {
	t.Helper()
	net, err := New(top, map[string]string{"b": n.ln.Addr().String()})
	require.NoError(t, err)
	require.NoError(t, net.Bind(t.Context(), nil))
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- net.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	return net
}

func dial(t *testing.T, n *Network) net.Conn {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", n.Addr(there))
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(c, text)
	require.NoError(t, err)
}

func hear(t *testing.T, c net.Conn, text string) {
	t.Helper()
	b := make([]byte, len(text))
	_, err := io.ReadFull(c, b)
	require.NoError(t, err)
	require.Equal(t, text, string(b))
}

func TestEachWayTakesItsDelay(t *testing.T) {
	top := near(Conditions{Delay: 30 * time.Millisecond})
	top.Links[0].Back = &Conditions{Delay: 50 * time.Millisecond}
	n := newNode(t)
	c := dial(t, start(t, top, n))
	far := n.accept(t)
	start := time.Now()
	say(t, c, "order")
	hear(t, far, "order")
	require.GreaterOrEqual(t, time.Since(start), 30*time.Millisecond)
	start = time.Now()
	say(t, far, "ack")
	hear(t, c, "ack")
	require.GreaterOrEqual(t, time.Since(start), 50*time.Millisecond)
}

// A pipe that delayed one chunk after the other would make a long link slow.
func TestChunksAreOnTheirWayTogether(t *testing.T) {
	const delay, chunks = 100 * time.Millisecond, 100
	n := newNode(t)
	c := dial(t, start(t, near(Conditions{Delay: delay}), n))
	far := n.accept(t)
	var g errgroup.Group
	begin := time.Now()
	g.Go(func() error {
		b := make([]byte, 1000*chunks)
		_, err := io.ReadFull(far, b)
		return err
	})
	for range chunks {
		_, err := c.Write(make([]byte, 1000))
		require.NoError(t, err)
	}
	require.NoError(t, g.Wait())
	require.Less(t, time.Since(begin), chunks*delay/2)
}

func TestBytesArriveInOrderWhateverTheJitter(t *testing.T) {
	n := newNode(t)
	c := dial(t, start(t, near(Conditions{Delay: 3 * time.Millisecond, Jitter: 3 * time.Millisecond}), n))
	far := n.accept(t)
	got := make(chan []byte, 1)
	go func() {
		h := sha256.New()
		_, _ = io.Copy(h, far)
		got <- h.Sum(nil)
	}()
	h, rng := sha256.New(), rand.NewChaCha8([32]byte{1})
	for range 300 {
		b := make([]byte, 1+rng.Uint64()%5000)
		_, _ = rng.Read(b)
		h.Write(b)
		_, err := c.Write(b)
		require.NoError(t, err)
	}
	require.NoError(t, c.(*net.TCPConn).CloseWrite())
	require.Equal(t, h.Sum(nil), <-got)
	say(t, far, "who has read everything may still answer")
	hear(t, c, "who has read everything may still answer")
}

func TestConnectionsShareABandwidth(t *testing.T) {
	const size, conns = 100_000, 3
	n := newNode(t)
	network := start(t, near(Conditions{Bandwidth: 8e6}), n) // 1 MB/s
	var g errgroup.Group
	begin := time.Now()
	for range conns {
		c := dial(t, network)
		far := n.accept(t)
		g.Go(func() error { _, err := c.Write(make([]byte, size)); return err })
		g.Go(func() error { _, err := io.ReadFull(far, make([]byte, size)); return err })
	}
	require.NoError(t, g.Wait())
	require.GreaterOrEqual(t, time.Since(begin), conns*size*time.Microsecond)
	require.Equal(t, Traffic{Bytes: conns * size, Connections: conns}, network.Traffic(there))
	require.Zero(t, network.Traffic(there.back()).Bytes)
}

func TestPartitionHoldsWhatIsSentUntilItHeals(t *testing.T) {
	n := newNode(t)
	network := start(t, near(Conditions{}), n)
	c := dial(t, network)
	far := n.accept(t)
	say(t, c, "before")
	hear(t, far, "before")
	require.NoError(t, network.Partition(there))
	require.NoError(t, network.Partition(there))
	say(t, c, "while cut")
	later := dial(t, network)
	say(t, later, "dialed while cut")
	say(t, far, "the other way") // is not cut
	hear(t, c, "the other way")

	require.NoError(t, network.Heal(there)) // one of two
	require.NoError(t, far.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	_, err := far.Read(make([]byte, 1))
	require.ErrorContains(t, err, "timeout")
	require.NoError(t, far.SetReadDeadline(time.Now().Add(patience)))
	require.Empty(t, n.conns)

	require.NoError(t, network.Heal(there))
	hear(t, far, "while cut")
	hear(t, n.accept(t), "dialed while cut")
	require.NoError(t, network.Heal(there)) // one too many changes nothing
	say(t, c, "after")
	hear(t, far, "after")
}

func TestResetIsSeenOnBothSides(t *testing.T) {
	n := newNode(t)
	network := start(t, near(Conditions{Delay: time.Millisecond}), n)
	c := dial(t, network)
	far := n.accept(t)
	say(t, c, "x")
	hear(t, far, "x")
	require.NoError(t, network.Reset(there))
	for _, end := range []net.Conn{c, far} {
		_, err := end.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}
	again := dial(t, network)
	say(t, again, "again")
	hear(t, n.accept(t), "again")
	require.Equal(t, 1, network.Traffic(there).Resets)
}

func TestLinksAreResetEverySoOften(t *testing.T) {
	n := newNode(t)
	c := dial(t, start(t, near(Conditions{ResetEvery: 50 * time.Millisecond}), n))
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestNodeThatIsDownResetsWhoDials(t *testing.T) {
	n := newNode(t)
	network := start(t, near(Conditions{}), n)
	require.NoError(t, n.ln.Close())
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", network.Addr(there))
	if err == nil { // else the reset came at once
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

// A reader that goes away must not leave goroutines of the link behind; goleak looks after that.
func TestReaderThatGoesAwayEndsTheConnection(t *testing.T) {
	n := newNode(t)
	network := start(t, near(Conditions{Delay: time.Millisecond}), n)
	c := dial(t, network)
	require.NoError(t, n.accept(t).Close())
	require.Eventually(t, func() bool {
		_, err := c.Write(make([]byte, 100_000))
		return err != nil
	}, patience, tick)
	require.Eventually(t, func() bool {
		l := network.links[there]
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.open) == 0
	}, patience, tick)
}

func TestSlowLinkIsSlowUntilItIsRestored(t *testing.T) {
	n := newNode(t)
	network := start(t, near(Conditions{}), n)
	c := dial(t, network)
	far := n.accept(t)
	require.NoError(t, network.Slow(there, Conditions{Delay: 60 * time.Millisecond}))
	begin := time.Now()
	say(t, c, "slow")
	hear(t, far, "slow")
	require.GreaterOrEqual(t, time.Since(begin), 60*time.Millisecond)
	require.NoError(t, network.Restore(there))
	require.Zero(t, network.paths[there].flight())
}

func TestProbesMeasureTheLink(t *testing.T) {
	n := newNode(t)
	top := near(Conditions{Delay: 10 * time.Millisecond})
	top.Links[0].Back = &Conditions{Delay: 30 * time.Millisecond}
	network := start(t, top, n)
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	var echoes []Echo
	require.NoError(t, network.Probe(ctx, there, time.Millisecond, func(e Echo) {
		switch echoes = append(echoes, e); len(echoes) {
		case 10:
			_ = network.Reset(there) // it dials again
		case 20:
			stop()
		}
	}))
	require.GreaterOrEqual(t, len(echoes), 20)
	for _, e := range echoes {
		require.GreaterOrEqual(t, e.OneWay, 10*time.Millisecond)
		require.GreaterOrEqual(t, e.RoundTrip, e.OneWay+30*time.Millisecond)
		require.Less(t, time.Since(e.Sent), patience)
	}
	require.Zero(t, network.Traffic(there).Connections) // the probes' are not counted
	require.ErrorIs(t, network.Probe(t.Context(), Pair{"a", "c"}, time.Millisecond, nil), ErrNoLink)
}

// The links' part of the process is to be told from the rest, which is idle here.
func TestLinksAreMeteredApart(t *testing.T) {
	n := newNode(t)
	c := dial(t, start(t, near(Conditions{}), n))
	far := n.accept(t)
	go func() { _, _ = io.Copy(io.Discard, far) }()
	took, err := MeasureCPU(func() error {
		b := make([]byte, 1<<20)
		for begin := time.Now(); time.Since(begin) < 500*time.Millisecond; {
			if _, err := c.Write(b); err != nil {
				return err
			}
		}
		_, err := MeasureCPU(func() error { return nil }) // the profiler is taken
		return err
	})
	require.NoError(t, err)
	require.Positive(t, took)
	_, err = labelledCPU([]byte("no profile"))
	require.Error(t, err)
}

func TestNetworkNamesWhatItDoesNotHave(t *testing.T) {
	_, err := New(near(Conditions{}), map[string]string{"c": "127.0.0.1:1"})
	require.ErrorIs(t, err, ErrTopology)
	_, err = New(Topology{}, nil)
	require.ErrorIs(t, err, ErrTopology)
	n, err := New(near(Conditions{}), map[string]string{"b": "127.0.0.1:1"})
	require.NoError(t, err)
	require.ErrorIs(t, n.Bind(t.Context(), map[Pair]string{there.back(): anyPort}), ErrNoLink)
	require.Error(t, n.Bind(t.Context(), map[Pair]string{there: "256.0.0.1:0"}))
	for _, do := range []func(Pair) error{n.Partition, n.Heal, n.Restore, n.Reset} {
		require.ErrorIs(t, do(Pair{"a", "a"}), ErrNoLink)
	}
	require.ErrorIs(t, n.Slow(Pair{"a", "a"}, Conditions{}), ErrNoLink)
}
