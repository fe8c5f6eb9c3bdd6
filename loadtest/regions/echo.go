package regions

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
)

// A probe is probeSize bytes: when it was sent and when it arrived, nanoseconds on the clock that both
// ends share, and padding.
const (
	probeSize = 64
	probeAt   = 8
	// redialPause lies between two attempts to open the echo's connection again.
	redialPause = 20 * time.Millisecond
)

// Echo is one probe that came back.
type Echo struct {
	Sent      time.Time
	OneWay    time.Duration // until the far end had it
	RoundTrip time.Duration
}

// echo is the far end of all probes.
type echo struct {
	started time.Time
	ln      net.Listener
}

func (e *echo) bind(ctx context.Context) (err error) {
	var lc net.ListenConfig
	e.started = time.Now()
	if e.ln, err = lc.Listen(ctx, "tcp", anyPort); err != nil {
		return fmt.Errorf("echo: %w", err)
	}
	return nil
}

// clock is the time since the start, which never jumps.
func (e *echo) clock() uint64 { return uint64(time.Since(e.started)) } //nolint:gosec // positive

func (e *echo) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { _ = e.ln.Close() })
	defer stop()
	for {
		c, err := e.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return g.Wait()
		}
		if err != nil {
			wait(time.Millisecond, ctx.Done())
			continue
		}
		g.Go(func() error {
			e.answer(ctx, c)
			return nil
		})
	}
}

// answer stamps each probe and sends it back until the connection ends.
func (e *echo) answer(ctx context.Context, c net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	defer c.Close()
	var b [probeSize]byte
	for {
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return
		}
		binary.BigEndian.PutUint64(b[probeAt:], e.clock())
		if _, err := c.Write(b[:]); err != nil {
			return
		}
	}
}

// Probe sends a probe over one direction every so often until ctx ends, whatever becomes of the ones
// before, and calls got for each that comes back, one at a time. A connection that was reset is
// opened again; what was on its way in it is lost, as everything is.
func (n *Network) Probe(ctx context.Context, p Pair, every time.Duration, got func(Echo)) error {
	for ctx.Err() == nil {
		c, err := n.dialEcho(ctx, p)
		if errors.Is(err, ErrNoLink) {
			return err
		}
		if err == nil {
			n.probe(ctx, c, every, got)
		}
		wait(redialPause, ctx.Done())
	}
	return nil
}

// probe uses one connection until it breaks.
func (n *Network) probe(ctx context.Context, c net.Conn, every time.Duration, got func(Echo)) {
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	defer c.Close()
	g.Go(func() error {
		t := time.NewTicker(every)
		defer t.Stop()
		var b [probeSize]byte
		for {
			binary.BigEndian.PutUint64(b[:], n.echo.clock())
			if _, err := c.Write(b[:]); err != nil {
				return err
			}
			select {
			case <-t.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	g.Go(func() error {
		var b [probeSize]byte
		for {
			if _, err := io.ReadFull(c, b[:]); err != nil {
				return err
			}
			sent, at := binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[probeAt:])
			got(Echo{
				Sent:      n.echo.started.Add(time.Duration(sent)), //nolint:gosec // our own clock
				OneWay:    time.Duration(at - sent),                //nolint:gosec // the same
				RoundTrip: time.Duration(n.echo.clock() - sent),    //nolint:gosec // the same
			})
		}
	})
	_ = g.Wait() // it broke, or the probing is over
}
