package upkeep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus/embedded"
	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/subjects"
)

func newGuard(js jetstream.JetStream, store Store) *Guard {
	rec := subjects.Record(testOptions())
	return NewGuard(js, store, &rec, discard(), prometheus.NewRegistry())
}

func door(t *testing.T, js jetstream.JetStream) (reason string, closed bool) {
	t.Helper()
	kv, err := js.KeyValue(t.Context(), subjects.BucketState)
	require.NoError(t, err)
	e, err := kv.Get(t.Context(), DoorKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return "", false
	}
	require.NoError(t, err)
	return ParseDoor(e.Value())
}

func recordSources(t *testing.T, js jetstream.JetStream) int {
	t.Helper()
	s, err := js.Stream(t.Context(), subjects.StreamRecord)
	require.NoError(t, err)
	return len(s.CachedInfo().Config.Sources)
}

func TestGuardStopsRecordFirstThenClosesTheDoorAndUndoesBothBelow(t *testing.T) {
	t.Parallel()
	_, js := started(t)
	store := &fakeStore{}
	g := newGuard(js, store)
	for _, step := range []struct {
		used    uint64
		sources int
		closed  bool
	}{
		{0, 3, false},
		{799, 3, false},
		{800, 0, false},
		{899, 0, false},
		{900, 0, true},
		{880, 0, true}, // between the two: as it is
		{879, 0, false},
		{899, 0, false},
		{750, 0, false}, // between the two: as it is
		{749, 3, false},
		{799, 3, false},
		{1000, 0, true}, // both at once
		{100, 3, false},
	} {
		store.used = step.used
		require.NoError(t, g.Look(t.Context()))
		require.Equal(t, step.sources, recordSources(t, js), step.used)
		require.Equal(t, step.sources == 0, g.RecordPaused(), step.used)
		reason, closed := door(t, js)
		require.Equal(t, step.closed, closed, step.used)
		require.Equal(t, step.closed, reason != "", step.used)
	}
}

// A tenth of four terabytes is more than all streams can take: it is no reason to stop anything.
func TestGuardCountsOnlyWhatTheStoreCanNeedOfALargeVolume(t *testing.T) {
	const gib, total = 1 << 30, 4 << 40
	for _, step := range []struct {
		free                     uint64
		recordStops, doorCloses  bool
		recordResumes, doorOpens bool
	}{
		{free: 400 * gib, recordResumes: true, doorOpens: true},
		{free: 21 * gib, recordResumes: true, doorOpens: true},
		{free: 20 * gib, doorOpens: true},
		{free: 16 * gib, recordStops: true, doorOpens: true},
		{free: 9 * gib, recordStops: true},
		{free: 8 * gib, recordStops: true, doorCloses: true},
		{free: 0, recordStops: true, doorCloses: true},
	} {
		r := roomOf(total-step.free, total)
		require.Equal(t, step.recordStops, r.share <= recordStopAt, step.free)
		require.Equal(t, step.recordResumes, r.share > recordStartAt, step.free)
		require.Equal(t, step.doorCloses, r.share <= doorCloseAt, step.free)
		require.Equal(t, step.doorOpens, r.share > doorOpenAt, step.free)
	}
	require.Equal(t, "store volume is 100 % full, 8192 MiB free", roomOf(total-8*gib, total).String())
	require.Zero(t, roomOf(total+1, total).free, "a volume can't be more than full")
}

func TestGuardPausedRecordKeepsWhatItHasAndGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	_, js := started(t)
	store := &fakeStore{}
	g := newGuard(js, store)
	high := subjects.In(order.PriorityHigh, 0)
	publish(t, js, high, 5)
	eventually(t, func() bool { return state(t, js, subjects.StreamRecord).Msgs == 5 })
	store.used = 850
	require.NoError(t, g.Look(t.Context()))
	publish(t, js, high, 3)
	require.Equal(t, uint64(5), state(t, js, subjects.StreamRecord).Msgs)
	store.used = 100
	require.NoError(t, g.Look(t.Context()))
	eventually(t, func() bool { return state(t, js, subjects.StreamRecord).Msgs == 8 })
}

// The server finds out again how far RECORD had come, although it had no sources when it died.
func TestGuardPausedRecordGoesOnWhereItStoppedAfterAKill(t *testing.T) {
	t.Parallel()
	s, js := started(t)
	high := subjects.In(order.PriorityHigh, 0)
	publish(t, js, high, 5)
	eventually(t, func() bool { return state(t, js, subjects.StreamRecord).Msgs == 5 })
	store := &fakeStore{used: 850}
	require.NoError(t, newGuard(js, store).Look(t.Context()))
	publish(t, js, high, 3)
	s.Kill(t)
	store.used = 100
	g := newGuard(js, store)
	eventually(t, func() bool { return g.Look(t.Context()) == nil })
	publish(t, js, high, 1)
	eventually(t, func() bool { return state(t, js, subjects.StreamRecord).Msgs >= 9 })
	require.Equal(t, uint64(9), state(t, js, subjects.StreamRecord).LastSeq, "none twice")
}

func TestGuardFindsADoorAndARecordThatAnEarlierProcessLeft(t *testing.T) {
	t.Parallel()
	s, js := started(t)
	store := &fakeStore{used: 950}
	require.NoError(t, newGuard(js, store).Look(t.Context()))
	s.Kill(t)
	eventually(t, func() bool { return s.Health() == nil })
	// Still full: nothing changes, and nothing is switched on first.
	g := newGuard(js, store)
	require.NoError(t, g.Look(t.Context()))
	require.True(t, g.RecordPaused())
	_, closed := door(t, js)
	require.True(t, closed)
	store.used = 100
	require.NoError(t, newGuard(js, store).Look(t.Context()))
	require.Equal(t, 3, recordSources(t, js))
	_, closed = door(t, js)
	require.False(t, closed)
}

func TestGuardTriesAgainWhenTheServerDidNotAnswer(t *testing.T) {
	t.Parallel()
	s, js := started(t)
	store := &fakeStore{used: 950}
	g := newGuard(js, store)
	s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Error(t, g.Look(ctx))
	require.False(t, g.RecordPaused())
	s.Restart(t)
	eventually(t, func() bool { return g.Look(t.Context()) == nil })
	require.True(t, g.RecordPaused())
}

func TestGuardWithoutRecordOnlyMindsTheDoor(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	js := s.JetStream(t)
	o := testOptions()
	o.RecordMaxBytes = 0
	apply(t, js, o)
	g := NewGuard(js, &fakeStore{used: 900}, nil, discard(), prometheus.NewRegistry())
	require.NoError(t, g.Look(t.Context()))
	_, closed := door(t, js)
	require.True(t, closed)
	// Declared, but not made yet.
	require.NoError(t, newGuard(js, &fakeStore{used: 900}).Look(t.Context()))
}

func TestGuardEndsWithTheStoresFailure(t *testing.T) {
	t.Parallel()
	_, js := started(t)
	store := &fakeStore{health: fmt.Errorf("%w: no space left", embedded.ErrStoreFailed)}
	require.ErrorIs(t, newGuard(js, store).Run(t.Context()), ErrStoreFailed)
}

func TestGuardSurvivesEveryOtherFault(t *testing.T) {
	t.Parallel()
	_, js := started(t)
	out := &bytes.Buffer{}
	store := &fakeStore{volume: errors.New("statfs says no"), health: errors.New("not yet")}
	g := NewGuard(js, store, nil, slog.New(slog.NewTextHandler(out, nil)), prometheus.NewRegistry())
	ctx, cancel := context.WithTimeout(t.Context(), 1200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, g.Run(ctx), context.DeadlineExceeded)
	require.Equal(t, 1, bytes.Count(out.Bytes(), []byte("statfs says no")), "once, not each round")
}

// The real thing: a volume that fills and gets room again.
func TestGuardOnASmallVolume(t *testing.T) {
	t.Parallel()
	dir := smallVolume(t, "96m")
	s := natstest.Start(t, natstest.StoreDir(filepath.Join(dir, "nats")))
	js := s.JetStream(t)
	apply(t, js, testOptions())
	g := newGuard(js, s)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()

	empty := fill(t, dir, 80<<20)
	eventually(t, g.RecordPaused)
	_, closed := door(t, js)
	require.False(t, closed)
	emptyAll := fill(t, dir, 8<<20) // appends: 88 of 96
	eventually(t, func() bool { _, closed := door(t, js); return closed })
	// What was accepted before is still worked on and accounted for.
	publish(t, js, subjects.OK("", order.PriorityHigh, 0), 100)
	publish(t, js, subjects.Done("a"), 100)

	_ = empty
	emptyAll()
	room := time.Now()
	eventually(t, func() bool { _, closed := door(t, js); return !closed })
	require.Less(t, time.Since(room), 5*time.Second)
	eventually(t, func() bool { return !g.RecordPaused() })
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

// A volume that is full to the last byte freezes the stream until the server starts again; the
// guard says so at once, and a restart has every acknowledged order.
func TestGuardEndsWhenTheVolumeIsFullAndARestartLosesNothing(t *testing.T) {
	t.Parallel()
	dir := smallVolume(t, "48m")
	s := natstest.Start(t, natstest.StoreDir(filepath.Join(dir, "nats")))
	js := s.JetStream(t)
	apply(t, js, testOptions())
	g := newGuard(js, s)
	done := make(chan error, 1)
	go func() { done <- g.Run(t.Context()) }()

	empty := fill(t, dir, 1<<30)
	stored := uint64(0)
	var err error
	for err == nil {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err = js.Publish(ctx, subjects.In(order.PriorityHigh, 0), make([]byte, 10<<10)); err == nil {
			stored++
		}
		cancel()
	}
	select {
	case failed := <-done:
		require.ErrorIs(t, failed, ErrStoreFailed)
	case <-time.After(patience):
		require.Fail(t, "the guard goes on")
	}
	empty()
	s.Restart(t)
	require.NoError(t, s.Health())
	eventually(t, func() bool {
		st, err := js.Stream(t.Context(), subjects.StreamIn(order.PriorityHigh))
		return err == nil && st.CachedInfo().State.Msgs >= stored
	})
	publish(t, js, subjects.In(order.PriorityHigh, 0), 1)
}

func TestDoorValueRoundTrip(t *testing.T) {
	reason, closed := ParseDoor(DoorValue("store volume is 93 % full"))
	require.True(t, closed)
	require.Equal(t, "store volume is 93 % full", reason)
	for _, v := range [][]byte{DoorValue(""), nil, []byte("closed")} {
		reason, closed = ParseDoor(v)
		require.False(t, closed)
		require.Empty(t, reason)
	}
}

func FuzzParseDoor(f *testing.F) {
	f.Add([]byte("open"))
	f.Add(DoorValue("full"))
	f.Fuzz(func(t *testing.T, value []byte) {
		reason, closed := ParseDoor(value)
		require.True(t, closed || reason == "")
	})
}
