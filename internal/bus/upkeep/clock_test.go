package upkeep

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/order"
	"millrace/subjects"
)

func TestRule18ClockIsUnknownUntilMeasuredAndThenTheServers(t *testing.T) {
	t.Parallel()
	_, js := started(t)
	c := NewClock(js, subjects.StreamIn(order.PriorityHigh), discard(), prometheus.NewRegistry())
	require.ErrorIs(t, c.Ready(), ErrNoClock)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	eventually(t, func() bool { return c.Ready() == nil })
	require.InDelta(t, 0, c.Skew().Seconds(), 0.25, "one machine, one clock")
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

func TestRule18LocalClockHasNoOffset(t *testing.T) {
	c := LocalClock()
	require.NoError(t, c.Ready())
	require.Zero(t, c.Skew())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, c.Run(ctx), context.Canceled)
}

func TestRule18SkewAboveHalfASecondIsNotReady(t *testing.T) {
	for offset, want := range map[time.Duration]error{
		499 * time.Millisecond: nil, 501 * time.Millisecond: ErrSkew, -501 * time.Millisecond: ErrSkew, -time.Hour: ErrSkew,
	} {
		c := &Clock{}
		c.add(clockSample{offset: offset, rtt: time.Millisecond})
		require.ErrorIs(t, c.Ready(), want, offset)
		require.InDelta(t, time.Now().Add(offset).UnixMilli(), c.Now().UnixMilli(), 1000)
	}
}

func TestClockTrustsTheShortestRoundTrip(t *testing.T) {
	c := &Clock{}
	c.add(clockSample{offset: 20 * time.Millisecond, rtt: 60 * time.Millisecond})
	c.add(clockSample{offset: 3 * time.Millisecond, rtt: time.Millisecond})
	c.add(clockSample{offset: -30 * time.Millisecond, rtt: 80 * time.Millisecond})
	require.Equal(t, 3*time.Millisecond, c.Skew())
	for range clockSamples {
		c.add(clockSample{offset: 5 * time.Millisecond, rtt: 10 * time.Millisecond})
	}
	require.Equal(t, 5*time.Millisecond, c.Skew(), "old samples are forgotten")
	require.Len(t, c.samples, clockSamples)
}

func TestClockThatWasSetVoidsWhatWasMeasuredBefore(t *testing.T) {
	c := &Clock{}
	c.add(clockSample{offset: 0, rtt: time.Millisecond})
	c.add(clockSample{offset: 2 * time.Second, rtt: 50 * time.Millisecond})
	require.Equal(t, 2*time.Second, c.Skew())
	require.ErrorIs(t, c.Ready(), ErrSkew)
}

func TestClockKeepsItsOffsetWhileTheServerIsAway(t *testing.T) {
	t.Parallel()
	s, js := started(t)
	c := NewClock(js, subjects.StreamIn(order.PriorityHigh), discard(), prometheus.NewRegistry())
	require.NoError(t, c.Measure(t.Context()))
	before := c.Skew()
	s.Stop()
	require.Error(t, c.Measure(t.Context()))
	require.Equal(t, before, c.Skew())
	require.NoError(t, c.Ready())
	s.Restart(t)
}
