package enginelog

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/engineapi/record"
	"millrace/internal/natstest"
	"millrace/subjects"
)

// follower collects what a Follow tells.
type follower struct {
	mu   sync.Mutex
	ids  []string
	last uint64
	loss []string
	err  chan error
	stop context.CancelFunc
}

// start follows as the named execution client until the test ends or stop is called. each, which may
// be nil, is called before an entry is noted.
func start(tb testing.TB, b Bus, target string, from uint64, each func(record.Entry) error) *follower {
	tb.Helper()
	f := &follower{err: make(chan error, 1)}
	l, err := NewReader(b, quiet(), prometheus.NewRegistry()).Log(target, func(l Loss) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.loss = append(f.loss, lossName(l))
	})
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	f.stop = func() {
		cancel()
		<-done
	}
	go func() {
		defer close(done)
		f.err <- l.Follow(ctx, from, func(e record.Entry) error {
			if each != nil {
				if err := each(e); err != nil {
					return err
				}
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			f.ids = append(f.ids, name(e))
			f.last = e.Stream
			return nil
		})
	}()
	tb.Cleanup(f.stop)
	return f
}

func (f *follower) got() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.ids...)
}

func (f *follower) has(tb testing.TB, want []string) {
	tb.Helper()
	require.Eventually(tb, func() bool { return len(f.got()) >= len(want) }, soon, tick, "%d entries, not %d", len(want), len(f.got()))
	require.Equal(tb, want, f.got())
}

func durable(tb testing.TB, js jetstream.JetStream, target string) *jetstream.ConsumerInfo {
	tb.Helper()
	c, err := js.Consumer(tb.Context(), subjects.StreamEngine, subjects.EngineDurable(target))
	require.NoError(tb, err)
	return c.CachedInfo()
}

func TestAFollowerGetsWhatIsThereAndWhatComes(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	js := furnish(t, s)
	b := port(t, s)
	r := run(t, b, spoolDir(t))
	say(r, 1, 1, 50)
	r.settled(t, 100)
	f := start(t, b, "geth", 1, nil)
	f.has(t, names(1, 1, 50))
	say(r, 1, 51, 60)
	q, _ := call(1, 61, 4_000_000) // in parts
	r.Request(q)
	say(r, 1, 62, 62)
	f.has(t, append(append(names(1, 1, 60), "1.61.q"), names(1, 62, 62)...))
	require.Eventually(t, func() bool { return durable(t, js, "geth").AckFloor.Stream == f.last }, soon, tick,
		"its floor says how far it is")
	require.Zero(t, durable(t, js, "geth").NumAckPending)
}

// TestRule22FollowersGoOnOverEveryEventOfTheBus takes away the server, its memory, the consumer, and
// messages from it.
func TestRule22FollowersGoOnOverEveryEventOfTheBus(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	js := furnish(t, s)
	b := port(t, s)
	r := run(t, b, spoolDir(t))
	f := start(t, b, "geth", 1, nil)
	next := uint64(1)
	more := func() {
		say(r, 1, next, next+19)
		next += 20
	}
	more()
	f.has(t, names(1, 1, next-1))
	s.Restart(t)
	more()
	f.has(t, names(1, 1, next-1))
	more()
	r.settled(t, 2*int(next-1)) // what is stored between Kill's copy and its stop would be gone
	s.Kill(t)                   // acknowledgements that were not written are forgotten
	more()
	f.has(t, names(1, 1, next-1))
	require.NoError(t, js.DeleteConsumer(t.Context(), subjects.StreamEngine, subjects.EngineDurable("geth")))
	more()
	f.has(t, names(1, 1, next-1))
	thief, err := js.Consumer(t.Context(), subjects.StreamEngine, subjects.EngineDurable("geth"))
	require.NoError(t, err)
	stolen, err := thief.Fetch(7, jetstream.FetchMaxWait(time.Second))
	require.NoError(t, err)
	more()
	f.has(t, names(1, 1, next-1))
	n := 0
	for range stolen.Messages() {
		n++ // never acknowledged
	}
	t.Log("messages taken away:", n)
	more()
	f.has(t, names(1, 1, next-1))
	require.Empty(t, f.loss)
}

func TestAFollowerMayGoBack(t *testing.T) {
	s := natstest.Start(t)
	js := furnish(t, s)
	b := port(t, s)
	r := run(t, b, spoolDir(t))
	say(r, 1, 1, 20)
	r.settled(t, 40)
	f := start(t, b, "geth", 1, nil)
	f.has(t, names(1, 1, 20))
	f.stop()
	back := start(t, b, "geth", 21, nil)
	back.has(t, names(1, 11, 20))
	back.stop()
	ahead := start(t, b, "geth", 41, nil)
	say(r, 1, 21, 22)
	ahead.has(t, names(1, 21, 22))
	require.Eventually(t, func() bool { return durable(t, js, "geth").AckFloor.Stream == 44 }, soon, tick)
}

func TestFollowersOfDifferentClientsAreIndependent(t *testing.T) {
	s := natstest.Start(t)
	js := furnish(t, s)
	b := port(t, s)
	r := run(t, b, spoolDir(t))
	hang := make(chan struct{})
	defer close(hang)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	start(t, b, "hung", 1, func(record.Entry) error {
		select {
		case <-hang:
		case <-ctx.Done():
		}
		return ctx.Err()
	})
	f := start(t, b, "geth", 1, nil)
	say(r, 1, 1, 100)
	f.has(t, names(1, 1, 100))
	require.Zero(t, durable(t, js, "hung").AckFloor.Stream)
	require.LessOrEqual(t, durable(t, js, "hung").NumAckPending, subjects.EngineAckPending)
	cancel()
}

func TestAnErrorOfTheFollowersEndsIt(t *testing.T) {
	s := natstest.Start(t)
	js := furnish(t, s)
	b := port(t, s)
	r := run(t, b, spoolDir(t))
	say(r, 1, 1, 5)
	boom := errors.New("boom")
	f := start(t, b, "geth", 1, func(e record.Entry) error {
		if e.ID().Sequence == 3 {
			return boom
		}
		return nil
	})
	require.Equal(t, boom, <-f.err)
	require.Equal(t, names(1, 1, 2), f.got())
	require.Eventually(t, func() bool { return durable(t, js, "geth").AckFloor.Stream == 4 }, soon, tick)
}

func TestAFollowerThatIsTooSlowIsToldWhatItLost(t *testing.T) {
	s := natstest.Start(t)
	js := furnish(t, s, func(c *jetstream.StreamConfig) { c.MaxMsgs = 10 })
	b := port(t, s)
	r := run(t, b, spoolDir(t))
	release := make(chan struct{})
	f := start(t, b, "geth", 1, func(e record.Entry) error {
		if e.Stream == 2 {
			<-release
		}
		return nil
	})
	say(r, 1, 1, 1)
	require.Eventually(t, func() bool { return len(f.got()) == 1 }, soon, tick)
	say(r, 1, 2, 50)
	r.settled(t, 100)
	require.EqualValues(t, 91, state(t, js).FirstSeq)
	close(release)
	require.Eventually(t, func() bool { return f.at() == 100 }, soon, tick)
	f.mu.Lock()
	defer f.mu.Unlock()
	require.NotEmpty(t, f.loss)
	for _, l := range f.loss {
		require.Contains(t, l, "retention")
	}
}

func (f *follower) at() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

func TestAStreamThatWasMadeAnewIsNamed(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	js := furnish(t, s)
	b := port(t, s)
	r := run(t, b, spoolDir(t))
	say(r, 1, 1, 5)
	r.settled(t, 10)
	f := start(t, b, "geth", 1, nil)
	f.has(t, names(1, 1, 5))
	require.NoError(t, js.DeleteStream(t.Context(), subjects.StreamEngine))
	require.ErrorIs(t, <-f.err, ErrNoLog)
	furnish(t, s)
	require.ErrorIs(t, <-start(t, b, "geth", 11, nil).err, ErrOtherLife)
	again := start(t, b, "geth", 1, nil)
	say(r, 1, 6, 8)
	again.has(t, names(1, 6, 8))
}
