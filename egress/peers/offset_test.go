package peers

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// transit has n messages a second sent for a while by a clock that is ahead of ours, each under way for a time.
func transit(c *clockOffset, from time.Time, span, ahead, takes time.Duration) (last time.Duration, until time.Time) {
	const pause = 500 * time.Millisecond
	for until = from; until.Sub(from) < span; until = until.Add(pause) {
		last = c.learn(until.Add(takes), until.Add(ahead))
	}
	return last, until
}

func TestClocksThatAgreeAreLeftAlone(t *testing.T) {
	var c clockOffset
	last, _ := transit(&c, arrival, time.Minute, 0, 44*time.Millisecond)
	require.Equal(t, 44*time.Millisecond, last)
	require.Zero(t, c.offset())
	require.Equal(t, time.Second, c.learn(arrival.Add(time.Minute+time.Second), arrival.Add(time.Minute)), "a late one is late")
	require.Zero(t, c.offset())
}

func TestNothingArrivesBeforeItWasSent(t *testing.T) {
	var c clockOffset
	last, at := transit(&c, arrival, time.Minute, time.Hour, 44*time.Millisecond)
	require.Zero(t, last)
	require.Equal(t, 44*time.Millisecond-time.Hour, c.offset())
	require.Equal(t, 56*time.Millisecond, c.learn(at.Add(100*time.Millisecond), at.Add(time.Hour)), "what it took beyond the fastest")
}

func TestAClockThatIsBehindIsBelievedAfterAWhile(t *testing.T) {
	var c clockOffset
	last, at := transit(&c, arrival, 9*time.Second, -time.Hour, 44*time.Millisecond)
	require.Zero(t, c.offset(), "it may be what an outage kept back")
	require.Equal(t, time.Hour+44*time.Millisecond, last)
	last, _ = transit(&c, at, 5*time.Second, -time.Hour, 44*time.Millisecond)
	require.Equal(t, slowest, last)
	require.Equal(t, time.Hour+44*time.Millisecond-slowest, c.offset())
}

// A peer that comes back sends what it has, oldest first: that must not look young.
func TestABacklogIsNotTakenForAClock(t *testing.T) {
	var c clockOffset
	for age := 36 * time.Second; age > 0; age -= 10 * time.Millisecond {
		at := arrival.Add(36*time.Second - age).Add(-time.Duration(float64(36*time.Second-age) * .9)) // ten times as fast
		require.Equal(t, at.Sub(arrival.Add(-age)), c.learn(at, arrival.Add(-age)))
	}
	require.Zero(t, c.offset())
}

func TestAnOffsetIsForgottenWithItsWindowAndKeptThroughSilence(t *testing.T) {
	var c clockOffset
	_, at := transit(&c, arrival, time.Minute, time.Hour, 0)
	require.Equal(t, -time.Hour, c.offset())
	at = at.Add(24 * time.Hour)
	c.learn(at.Add(time.Second), at.Add(time.Hour))
	require.Equal(t, -time.Hour, c.offset(), "of the last it heard")
	_, _ = transit(&c, at, 2*time.Minute, 30*time.Minute, 0) // its operator set the clock
	require.Equal(t, -30*time.Minute, c.offset())
}
