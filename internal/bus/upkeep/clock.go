package upkeep

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

const (
	// MaxSkew is the difference between the machine's clock and the bus's above which a process is
	// not ready (CORRECTNESS 18).
	MaxSkew = 500 * time.Millisecond

	clockEvery   = 3 * time.Second
	clockTimeout = 2 * time.Second
	clockSamples = 8
)

// Clock is the bus's clock as this process sees it: the local clock, corrected by the offset that
// the server's answers show. It is safe for concurrent use.
type Clock struct {
	js      jetstream.JetStream
	stream  string
	log     *slog.Logger
	samples []clockSample // of Run's goroutine; the newest clockSamples
	offset  atomic.Int64  // nanoseconds that the bus is ahead of this machine
	known   atomic.Bool
}

// clockSample says that the bus's clock was ahead by offset, give or take half of rtt.
type clockSample struct{ offset, rtt time.Duration }

// LocalClock returns the clock for a process whose bus is in the same process: its offset is zero.
// Its Run only waits for ctx.
func LocalClock() *Clock {
	c := &Clock{}
	c.known.Store(true)
	return c
}

// NewClock returns a clock that asks for the state of the named stream, which carries the server's
// time. reg gets millrace_bus_clock_offset_seconds.
func NewClock(js jetstream.JetStream, stream string, log *slog.Logger, reg prometheus.Registerer) *Clock {
	c := &Clock{js: js, stream: stream, log: log}
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millrace_bus_clock_offset_seconds",
		Help: "How far the clock of the bus is ahead of this machine's.",
	}, func() float64 { return c.Skew().Seconds() })
	return c
}

// Now is the bus's time. Differences between two values are differences of the local monotonic
// clock, so a correction in between does not distort a duration.
func (c *Clock) Now() time.Time { return time.Now().Add(c.Skew()) }

// Skew is how far the bus's clock is ahead of this machine's; negative when it is behind.
func (c *Clock) Skew() time.Duration { return time.Duration(c.offset.Load()) }

// Ready returns nil, ErrNoClock before the first measurement, or ErrSkew.
func (c *Clock) Ready() error {
	if !c.known.Load() {
		return ErrNoClock
	}
	if s := c.Skew(); s > MaxSkew || s < -MaxSkew {
		return fmt.Errorf("%w: %s", ErrSkew, s)
	}
	return nil
}

// Run measures at once and then every few seconds until ctx ends.
func (c *Clock) Run(ctx context.Context) error {
	if c.js == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	r := rounds{name: "clock", log: c.log}
	return r.every(ctx, clockEvery, c.Measure)
}

// Measure asks the server for its time once. It must not run beside itself.
func (c *Clock) Measure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	sent := time.Now()
	stream, err := c.js.Stream(ctx, c.stream)
	if err != nil {
		return err
	}
	rtt := time.Since(sent)
	c.add(clockSample{offset: stream.CachedInfo().TimeStamp.Sub(sent.Add(rtt / 2)), rtt: rtt})
	return nil
}

// add takes a sample in. Of the last few the one with the shortest round trip is the best, unless
// it contradicts the newest: then a clock was set, and what was measured before is void.
func (c *Clock) add(s clockSample) {
	for _, old := range c.samples {
		if d := (s.offset - old.offset).Abs(); d > (s.rtt+old.rtt)/2+clockDrift {
			c.samples = c.samples[:0]
			break
		}
	}
	if len(c.samples) == clockSamples {
		c.samples = append(c.samples[:0], c.samples[1:]...)
	}
	c.samples = append(c.samples, s)
	best := s
	for _, old := range c.samples {
		if old.rtt < best.rtt {
			best = old
		}
	}
	c.offset.Store(int64(best.offset))
	c.known.Store(true)
}

// clockDrift is what two honest clocks may move against each other while samples are kept.
const clockDrift = 5 * time.Millisecond
