package enginelog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/subjects"
)

func TestCursorsMayGoBack(t *testing.T) {
	s := natstest.Start(t)
	furnish(t, s)
	st := NewState(port(t, s), quiet())
	at, err := st.Load(t.Context(), "geth")
	require.NoError(t, err)
	require.Zero(t, at)
	for _, want := range []uint64{500, 3, 1 << 63} {
		require.NoError(t, st.Save(t.Context(), "geth", want))
		s.Restart(t)
		require.Eventually(t, func() bool { at, err = st.Load(t.Context(), "geth"); return err == nil }, soon, tick)
		require.Equal(t, want, at)
	}
	_, err = st.Load(t.Context(), "a.b")
	require.ErrorIs(t, err, ErrName)
	require.ErrorIs(t, st.Save(t.Context(), "*", 1), ErrName)
}

func TestModesAreWatchedOverRestarts(t *testing.T) {
	s := natstest.Start(t)
	furnish(t, s)
	st := NewState(port(t, s), quiet())
	told := make(chan string, 16)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- st.Watch(ctx, "geth", func(mode string) { told <- mode }) }()
	require.Empty(t, <-told, "none is chosen")
	set := func(mode string) {
		require.Eventually(t, func() bool { return st.SetMode(t.Context(), "geth", mode) == nil }, soon, tick)
	}
	set("observe")
	require.Equal(t, "observe", <-told)
	require.NoError(t, st.SetMode(t.Context(), "besu", "off"))
	s.Restart(t)
	set("shadow-build")
	require.Equal(t, "shadow-build", <-told)
	s.Kill(t)
	set("off")
	require.Equal(t, "off", <-told)
	set("")
	require.Empty(t, <-told)
	mode, err := st.Mode(t.Context(), "besu")
	require.NoError(t, err)
	require.Equal(t, "off", mode)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Empty(t, told, "each change is told once")
	require.ErrorIs(t, st.SetMode(t.Context(), "a.b", "off"), ErrName)
	require.ErrorIs(t, st.Watch(t.Context(), "", nil), ErrName)
}

func TestAModeThatIsSetOnceMoreIsToldOnceMore(t *testing.T) {
	s := natstest.Start(t)
	furnish(t, s)
	st := NewState(port(t, s), quiet())
	told := make(chan string, 16)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- st.Watch(ctx, "geth", func(mode string) { told <- mode }) }()
	require.Empty(t, <-told)
	for range 3 {
		require.NoError(t, st.SetMode(t.Context(), "geth", "follow"))
		require.Equal(t, "follow", <-told)
	}
	s.Restart(t) // the watch is made again, and finds what was told
	require.Eventually(t, func() bool { return st.SetMode(t.Context(), "geth", "off") == nil }, soon, tick)
	require.Equal(t, "off", <-told)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Empty(t, told)
}

func TestTheChoiceOfThePrimarySurvivesARestart(t *testing.T) {
	s := natstest.Start(t)
	furnish(t, s)
	st := NewState(port(t, s), quiet())
	primary, err := st.Primary(t.Context())
	require.NoError(t, err)
	require.Empty(t, primary)
	require.NoError(t, st.SetPrimary(t.Context(), "besu"))
	s.Kill(t)
	fresh := NewState(port(t, s), quiet())
	primary, err = fresh.Primary(t.Context())
	require.NoError(t, err)
	require.Equal(t, "besu", primary)
	require.ErrorIs(t, st.SetPrimary(t.Context(), "a b"), ErrName)

	told := make(chan string, 4)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- fresh.WatchPrimary(ctx, func(target string) { told <- target }) }()
	require.Equal(t, "besu", <-told)
	require.NoError(t, fresh.SetPrimary(t.Context(), ""))
	require.Empty(t, <-told)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

func TestRule22AnEpochIsKeptUntilALaterOneIsClaimed(t *testing.T) {
	s := natstest.Start(t)
	js := furnish(t, s)
	b := port(t, s)
	st := NewState(b, quiet())
	mine, err := st.ClaimEpoch(t.Context())
	require.NoError(t, err)
	for range 2 {
		kept, err := st.KeepEpoch(t.Context(), mine)
		require.NoError(t, err)
		require.True(t, kept)
	}
	// With the bucket the epoch is gone, and is there again for the next claim.
	require.NoError(t, js.DeleteKeyValue(t.Context(), subjects.BucketEngine))
	furnish(t, s)
	kept, err := st.KeepEpoch(t.Context(), mine)
	require.NoError(t, err)
	require.True(t, kept)
	next, err := NewState(b, quiet()).ClaimEpoch(t.Context())
	require.NoError(t, err)
	require.Greater(t, next, mine)
	kept, err = st.KeepEpoch(t.Context(), mine)
	require.NoError(t, err)
	require.False(t, kept)
}

func TestRule22NoEpochIsGivenTwice(t *testing.T) {
	s := natstest.Start(t)
	js := furnish(t, s)
	b := port(t, s)
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			st := NewState(b, quiet())
			for range 5 {
				epoch, err := st.ClaimEpoch(context.Background())
				mu.Lock()
				if err != nil || seen[epoch] {
					t.Errorf("epoch %d: %v", epoch, err)
				}
				seen[epoch] = true
				mu.Unlock()
			}
		})
	}
	all.Wait()
	require.Len(t, seen, 20)

	// The bucket is lost; the clock has gone on since.
	require.NoError(t, js.DeleteKeyValue(t.Context(), subjects.BucketEngine))
	furnish(t, s)
	st := NewState(b, quiet())
	st.now = func() time.Time { return time.Now().Add(time.Minute) }
	epoch, err := st.ClaimEpoch(t.Context())
	require.NoError(t, err)
	for old := range seen {
		require.Greater(t, epoch, old)
	}
	// A clock that was set back changes nothing.
	st.now = func() time.Time { return time.Unix(1, 0) }
	next, err := st.ClaimEpoch(t.Context())
	require.NoError(t, err)
	require.Equal(t, epoch+1, next)
}

func TestAnEpochIsWaitedForAsLongAsTheCallerWaits(t *testing.T) {
	s := natstest.Start(t)
	b := port(t, s)
	st := NewState(b, quiet())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := st.ClaimEpoch(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	furnish(t, s)
	_, err = st.ClaimEpoch(t.Context())
	require.NoError(t, err)
}

// held is a lease that is always free.
type held struct{ names []string }

func (h *held) Hold(ctx context.Context, name string, f func(context.Context, func() bool) error) error {
	h.names = append(h.names, name)
	return f(ctx, func() bool { return true })
}

func TestRule22EachHolderOfADoorHasALaterEpoch(t *testing.T) {
	s := natstest.Start(t)
	furnish(t, s)
	st := NewState(port(t, s), quiet())
	h := &held{}
	var epochs []uint64
	done := errors.New("done")
	for range 3 {
		err := st.HoldDoor(t.Context(), h, "geth", func(_ context.Context, epoch uint64, valid func() bool) error {
			require.True(t, valid())
			epochs = append(epochs, epoch)
			return done
		})
		require.ErrorIs(t, err, done)
	}
	require.IsIncreasing(t, epochs)
	require.Equal(t, subjects.EngineDoorLease("geth"), h.names[2])
	require.ErrorIs(t, st.HoldDoor(t.Context(), h, "a.b", nil), ErrName)
}

func TestDivergencesAreKeptAndRead(t *testing.T) {
	s := natstest.Start(t)
	js := furnish(t, s)
	d := NewDivergences(port(t, s), quiet())
	for n := range 3 {
		id := fmt.Sprintf("1.%d", n)
		require.NoError(t, d.Publish(t.Context(), "geth", id, []byte(id)))
		require.NoError(t, d.Publish(t.Context(), "geth", id, []byte(id)), "a repeat is stored once")
	}
	require.NoError(t, d.Publish(t.Context(), "besu", "1.0", []byte("besu's")))
	var got []string
	collect := func(e Divergence) error {
		got = append(got, e.Secondary+" "+string(e.Event))
		return nil
	}
	require.NoError(t, d.Read(t.Context(), time.Time{}, collect))
	require.Equal(t, []string{"geth 1.0", "geth 1.1", "geth 1.2", "besu besu's"}, got)
	got = nil
	require.NoError(t, d.Read(t.Context(), time.Now().Add(time.Hour), collect))
	require.Empty(t, got)
	boom := errors.New("boom")
	require.Equal(t, boom, d.Read(t.Context(), time.Time{}, func(Divergence) error { return boom }))
	require.ErrorIs(t, d.Publish(t.Context(), "a.b", "1", nil), ErrName)
	require.ErrorIs(t, d.Publish(t.Context(), "geth", "1", make([]byte, 2<<20)), ErrTooLarge)
	require.NoError(t, js.DeleteStream(t.Context(), subjects.StreamDivergence))
	require.ErrorIs(t, d.Read(t.Context(), time.Time{}, collect), ErrNoLog)
}
