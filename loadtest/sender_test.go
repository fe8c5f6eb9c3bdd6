package loadtest

import (
	"context"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// fakeConn is a connection whose door takes a while.
type fakeConn struct{ takes time.Duration }

func (c *fakeConn) do(ctx context.Context, _ *Order) (exchange, bool, error) {
	pause(ctx, c.takes)
	return exchange{status: 200, body: []byte(`{"result":null}`)}, true, nil
}

func (*fakeConn) open(context.Context) {}
func (*fakeConn) close()               {}

// bubble runs a flow of 10 ms spacing inside a synctest bubble: the door takes a while, and the
// generator's timers are late by oversleep.
func bubble(t *testing.T, f Flow, takes, oversleep time.Duration) ([]Result, *Sender) {
	t.Helper()
	j := &Journal{}
	f.URLs, f.Corpus = []string{"127.0.0.1:1"}, CorpusConfig{Seed: 1, Mix: Only(ShapeCancel)}
	s, err := NewSender(f, j)
	require.NoError(t, err)
	require.NoError(t, s.Prepare(t.Context()))
	s.dial = func(*url.URL) exchanger { return &fakeConn{takes: takes} }
	s.sleep = func(ctx context.Context, d time.Duration) { pause(ctx, d+oversleep) }
	require.NoError(t, s.Run(t.Context()))
	return j.Results(), s
}

func TestLateWakeUpIsNotedAndNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rs, _ := bubble(t, Flow{Rate: 100, Count: 10, Preload: 10, Connections: 4}, time.Millisecond, 3*time.Millisecond)
		require.Len(t, rs, 10)
		for _, r := range rs {
			require.True(t, r.Scheduled)
			require.Equal(t, time.Millisecond, r.Latency, "what the door took")
			require.Zero(t, r.Waited)
			if r.Tag.Seq > 0 { // the first one is due at once
				require.Equal(t, 3*time.Millisecond, r.Late)
			}
		}
		f := Summarize([]string{"a"}, rs, nil).Flows[0]
		require.Equal(t, int64(10), f.Wakeup.Count)
		require.InDelta(t, 3000, f.Wakeup.P90, 3)
		require.Zero(t, f.Queued)
		require.Equal(t, int64(1000), f.Answer.Max)
	})
}

func TestWaitForAConnectionCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rs, _ := bubble(t, Flow{Rate: 100, Count: 5, Preload: 5, Connections: 1}, 25*time.Millisecond, 0)
		for i, r := range rs {
			// Due every 10 ms, done every 25.
			require.Equal(t, time.Duration(i)*15*time.Millisecond, r.Waited)
			require.Equal(t, 25*time.Millisecond+r.Waited, r.Latency)
			require.Equal(t, i == 0, r.Scheduled)
			require.Zero(t, r.Late)
		}
		f := Summarize([]string{"a"}, rs, nil).Flows[0]
		require.Equal(t, 4, f.Queued)
		require.Equal(t, int64(1), f.Wakeup.Count)
	})
}

// With as many connections as there is work for, one that comes back in time takes the next slot.
func TestConnectionThatIsBackInTimeOwesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rs, _ := bubble(t, Flow{Rate: 100, Count: 20, Preload: 20, Connections: 3}, 25*time.Millisecond, 0)
		for _, r := range rs {
			require.True(t, r.Scheduled)
			require.Equal(t, 25*time.Millisecond, r.Latency)
		}
	})
}

func TestOrdersThatAreNotReadyShiftTheSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &Journal{}
		s, err := NewSender(Flow{URLs: []string{"127.0.0.1:1"}, Rate: 100, Count: 3, Connections: 1, Corpus: CorpusConfig{Seed: 1, Mix: Only(ShapeCancel)}}, j)
		require.NoError(t, err)
		s.dial = func(*url.URL) exchanger { return &fakeConn{takes: time.Millisecond} }
		// The feed's making is late by 40 ms; two more orders come with the first. One connection,
		// because waiting for a mutex doesn't let a bubble's time pass.
		go func() {
			time.Sleep(40 * time.Millisecond)
			done := make(chan batch, 1)
			var b batch
			for n := range uint64(3) {
				o, _ := s.feed.corpus.Order(n)
				b.orders = append(b.orders, o)
			}
			done <- b
			s.feed.batches <- done
			close(s.feed.batches)
		}()
		require.NoError(t, s.send(t.Context(), t.Context()))
		require.Equal(t, Starvation{Orders: 1, Shift: 40 * time.Millisecond}, s.Starved())
		for i, r := range j.Results() {
			require.Equal(t, time.Millisecond, r.Latency, "the door isn't blamed")
			require.Equal(t, time.Duration(i)*10*time.Millisecond, r.Intended.Sub(j.Results()[0].Intended))
		}
	})
}

func TestClosedLoopHasNoSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rs, s := bubble(t, Flow{Duration: 100 * time.Millisecond, Count: 1000, Preload: 1000, Connections: 2}, 10*time.Millisecond, time.Hour)
		require.Len(t, rs, 20)
		for _, r := range rs {
			require.False(t, r.Scheduled)
			require.Equal(t, 10*time.Millisecond, r.Latency)
		}
		require.Zero(t, s.Starved())
	})
}

func TestSpacingHasAName(t *testing.T) {
	for _, want := range []Spacing{SpacingEven, SpacingPoisson} {
		b, err := want.MarshalText()
		require.NoError(t, err)
		var got Spacing
		require.NoError(t, got.UnmarshalText(b))
		require.Equal(t, want, got)
	}
	var s Spacing
	require.ErrorIs(t, s.UnmarshalText([]byte("odd")), ErrConfig)
	require.Equal(t, "unknown_0", s.String())
}
