package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus/embedded"
	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/subjects"
)

// recorded publishes n orders of each class, a second apart from first on, and waits until RECORD has
// them.
func recorded(tb testing.TB, b *Bus, first time.Time, n int) map[order.ID]*order.Order {
	tb.Helper()
	all := map[order.ID]*order.Order{}
	had, err := b.RecordSpan(tb.Context())
	require.NoError(tb, err)
	for i := range n {
		for _, p := range order.Priorities {
			o := testOrder(p)
			o.ReceivedAt = first.Add(time.Duration(i) * time.Second).Truncate(time.Microsecond)
			o.Accept = order.NewAcceptID(o.ReceivedAt)
			o.Signature = "X-Flashbots-Signature: 0xab:0xcd"
			o.Body = fmt.Appendf(nil, `{"id":%d,"class":"%s"}`, i, p)
			_, err := b.Publish(tb.Context(), o)
			require.NoError(tb, err)
			all[o.ID] = o
		}
	}
	require.Eventually(tb, func() bool {
		span, err := b.RecordSpan(tb.Context())
		return err == nil && span.Last-had.Last >= uint64(len(all))
	}, soon, tick)
	return all
}

// read returns what a range of the record has.
func read(tb testing.TB, b *Bus, r RecordRange) []order.Delivery {
	tb.Helper()
	var got []order.Delivery
	require.NoError(tb, b.Record(tb.Context(), r, func(d order.Delivery) error {
		got = append(got, d)
		return nil
	}))
	return got
}

func TestRecordHasEachOrderAsItWasSent(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	want := recorded(t, b, time.Now(), 50)
	got := read(t, b, RecordRange{})
	require.Len(t, got, len(want))
	last := uint64(0)
	for _, d := range got {
		o := want[d.Order.ID]
		require.NotNil(t, o)
		require.Equal(t, string(o.Body), string(d.Order.Body))
		require.Equal(t, o.Accept, d.Order.Accept)
		require.Equal(t, o.Signature, d.Order.Signature)
		require.Equal(t, o.Priority, d.Order.Priority)
		require.True(t, o.ReceivedAt.Equal(d.Order.ReceivedAt))
		require.WithinDuration(t, time.Now(), d.StoredAt, soon)
		require.Greater(t, d.Sequence, last)
		last = d.Sequence
	}
}

func TestRecordRangeIsByTimeOfReceiptAndBySequence(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	first := time.Now().Add(-time.Hour)
	recorded(t, b, first, 20)
	classes := len(order.Priorities)

	got := read(t, b, RecordRange{Since: first.Add(5 * time.Second), Until: first.Add(9 * time.Second)})
	require.Len(t, got, 4*classes)
	for _, d := range got {
		require.False(t, d.Order.ReceivedAt.Before(first.Add(5*time.Second).Truncate(time.Microsecond)))
		require.True(t, d.Order.ReceivedAt.Before(first.Add(9*time.Second)))
	}
	all := read(t, b, RecordRange{})
	got = read(t, b, RecordRange{From: all[7].Sequence})
	require.Equal(t, sequences(all[7:]), sequences(got))
	require.Empty(t, read(t, b, RecordRange{From: all[len(all)-1].Sequence + 1}))
	require.Empty(t, read(t, b, RecordRange{Since: time.Now().Add(time.Minute)}))
	require.Empty(t, read(t, b, RecordRange{Until: first.Add(-time.Minute)}))
}

func sequences(ds []order.Delivery) []uint64 {
	var out []uint64
	for _, d := range ds {
		out = append(out, d.Sequence)
	}
	return out
}

func TestRecordEndsWithWhatWasThereWhenItBegan(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	recorded(t, b, time.Now(), 5)
	n := 0
	require.NoError(t, b.Record(t.Context(), RecordRange{}, func(order.Delivery) error {
		if n++; n == 1 {
			recorded(t, b, time.Now(), 5)
		}
		return nil
	}))
	require.Equal(t, 15, n)
}

func TestRecordGoesOnOverARestartWithoutGapsOrRepeats(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s)
	recorded(t, b, time.Now(), 300)
	all := sequences(read(t, b, RecordRange{}))
	var got []uint64
	require.NoError(t, b.Record(t.Context(), RecordRange{}, func(d order.Delivery) error {
		if got = append(got, d.Sequence); len(got)%250 == 100 {
			s.Restart(t)
		}
		return nil
	}))
	require.Equal(t, all, got)
}

func TestRecordStopsAtTheReadersErrorAndAtTheEndOfItsContext(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	recorded(t, b, time.Now(), 5)
	enough := errors.New("enough")
	n := 0
	require.Equal(t, enough, b.Record(t.Context(), RecordRange{}, func(order.Delivery) error { n++; return enough }))
	require.Equal(t, 1, n)

	ctx, cancel := context.WithCancel(t.Context())
	require.ErrorIs(t, b.Record(ctx, RecordRange{}, func(order.Delivery) error { cancel(); return nil }), context.Canceled)
}

func TestRecordLeavesOutWhatIsNoOrder(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s)
	js := s.JetStream(t)
	void, err := subjects.Void(subjects.StreamIn(order.PriorityHigh))
	require.NoError(t, err)
	for _, subject := range []string{void, subjects.In(order.PriorityHigh, 0)} {
		_, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Data: []byte("x")})
		require.NoError(t, err)
	}
	want := recorded(t, b, time.Now(), 2)
	require.Eventually(t, func() bool {
		span, err := b.RecordSpan(t.Context())
		return err == nil && span.Messages == uint64(len(want)+2)
	}, soon, tick)
	require.Len(t, read(t, b, RecordRange{}), len(want))
}

func TestRecordThatIsNotKeptIsAnError(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t), func(o *subjects.Options) { o.RecordMaxBytes = 0 })
	require.ErrorIs(t, b.Record(t.Context(), RecordRange{}, func(order.Delivery) error { return nil }), ErrNoRecord)
	_, err := b.RecordSpan(t.Context())
	require.ErrorIs(t, err, ErrNoRecord)
}

func TestAStoppedNodesRecordIsReadWithoutChangingItsStreams(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := natstest.Start(t, natstest.StoreDir(dir))
	b := testBus(t, s)
	want := recorded(t, b, time.Now(), 10)
	before := config(t, s.JetStream(t), subjects.StreamRecord)

	log := slog.New(slog.DiscardHandler)
	_, err := OpenStore(t.Context(), dir, log)
	require.ErrorIs(t, err, embedded.ErrLocked)
	b.Close()
	s.Stop()

	opened, err := OpenStore(t.Context(), dir, log)
	require.NoError(t, err)
	require.Len(t, read(t, opened, RecordRange{}), len(want))
	opened.Close()
	s.Restart(t)
	require.Equal(t, before, config(t, s.JetStream(t), subjects.StreamRecord))

	_, err = OpenStore(t.Context(), t.TempDir(), log)
	require.ErrorIs(t, err, ErrNoStore)
}

func config(tb testing.TB, js jetstream.JetStream, stream string) jetstream.StreamConfig {
	tb.Helper()
	s, err := js.Stream(tb.Context(), stream)
	require.NoError(tb, err)
	return s.CachedInfo().Config
}

func TestRule19RecordKeepsEveryClassAndDropsTheOldest(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	testBus(t, s)
	cfg := config(t, s.JetStream(t), subjects.StreamRecord)
	require.Equal(t, jetstream.DiscardOld, cfg.Discard, "a full record must not stop its sources")
	require.Equal(t, jetstream.LimitsPolicy, cfg.Retention)
	require.Equal(t, jetstream.NoCompression, cfg.Compression)
	require.Equal(t, testTopology().RecordMaxBytes, cfg.MaxBytes)
	require.Equal(t, testTopology().RecordMaxAge, cfg.MaxAge)
	require.Empty(t, cfg.Subjects)
	require.Len(t, cfg.Sources, len(order.Priorities))
	for _, ledger := range []string{subjects.StreamDone, subjects.StreamRejected} {
		c := config(t, s.JetStream(t), ledger)
		require.Equal(t, jetstream.DiscardOld, c.Discard)
		require.GreaterOrEqual(t, c.MaxAge, 24*time.Hour)
	}
}

// A duplicate window on RECORD would drop the second class's copy of an order that was sent in two
// classes, and the second acceptance after the door's window.
func TestRule19RecordHasBothCopiesOfOneID(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s)
	o := testOrder(order.PriorityHigh)
	_, err := b.Publish(t.Context(), o)
	require.NoError(t, err)
	again := *o
	again.Priority = order.PriorityLow
	_, err = b.Publish(t.Context(), &again)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		span, err := b.RecordSpan(t.Context())
		return err == nil && span.Messages == 2
	}, soon, tick)
	got := read(t, b, RecordRange{})
	require.Len(t, got, 2)
	require.Equal(t, got[0].Order.ID, got[1].Order.ID)
}

func TestRule19AFullRecordDropsItsOldestAndTakesOn(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	b := testBus(t, natstest.Start(t), func(o *subjects.Options) { o.RecordMaxBytes = limit })
	var last order.ID
	for range 300 {
		o := testOrder(order.PriorityMedium)
		o.Body = make([]byte, 16<<10)
		_, _ = rand.Read(o.Body) // S2 must find nothing
		_, err := b.Publish(t.Context(), o)
		require.NoError(t, err)
		last = o.ID
	}
	require.Eventually(t, func() bool {
		span, err := b.RecordSpan(t.Context())
		return err == nil && span.Last == 300
	}, soon, tick)
	span, err := b.RecordSpan(t.Context())
	require.NoError(t, err)
	require.Greater(t, span.First, uint64(1))
	require.LessOrEqual(t, span.Bytes, uint64(limit))
	got := read(t, b, RecordRange{})
	require.Equal(t, last, got[len(got)-1].Order.ID)
}

// What the record has not copied yet is not purged from IN, however long ago it was processed
// (CORRECTNESS 1): see also upkeep's tests of Purge, which cover the cursor itself.
func TestRule01WhatIsPurgedFromINIsInTheRecord(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s, func(o *subjects.Options) { o.MaxAge = time.Second })
	want := recorded(t, b, time.Now(), 20)
	background(t, func(ctx context.Context) error {
		return b.ConsumeIn(ctx, 2, func(context.Context, order.Delivery, func()) (func(context.Context) error, error) { return nil, nil })
	})
	background(t, b.purge.Run)
	js := s.JetStream(t)
	require.Eventually(t, func() bool {
		for _, p := range order.Priorities {
			st, err := js.Stream(t.Context(), subjects.StreamIn(p))
			if err != nil || st.CachedInfo().State.Msgs > 0 {
				return false
			}
		}
		return true
	}, 3*soon, 50*time.Millisecond)
	require.Len(t, read(t, b, RecordRange{}), len(want))
}

func BenchmarkRecord(b *testing.B) {
	bus := testBus(b, natstest.Start(b), func(o *subjects.Options) { o.InMaxBytes, o.RecordMaxBytes = 2<<30, 2<<30 })
	const n = 5000
	for range n {
		o := testOrder(order.PriorityMedium)
		o.Body = make([]byte, 7<<10)
		_, err := bus.Publish(b.Context(), o)
		require.NoError(b, err)
	}
	require.Eventually(b, func() bool {
		span, err := bus.RecordSpan(b.Context())
		return err == nil && span.Messages == n
	}, soon, tick)
	b.ReportAllocs()
	b.SetBytes(7 << 10)
	b.ResetTimer()
	for left := b.N; left > 0; {
		err := bus.Record(b.Context(), RecordRange{}, func(order.Delivery) error {
			if left--; left <= 0 {
				return errEnough
			}
			return nil
		})
		if err != nil {
			require.ErrorIs(b, err, errEnough)
		}
	}
}

var errEnough = errors.New("enough")

// Nobody acknowledges what is read, so what a pull brought too late for its reader would be gone.
func TestRecordReadsAgainWhatDidNotArrive(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	want := recorded(t, b, time.Now(), 20)
	rd := recordReader{bus: b, f: func(order.Delivery) error { return nil }}
	l, s, err := b.record(t.Context())
	require.NoError(t, err)
	require.NoError(t, rd.ends(t.Context(), s))
	c, err := s.CreateConsumer(t.Context(), rd.consumer())
	require.NoError(t, err)
	defer rd.discard(t.Context(), l, c)
	stolen, err := c.Fetch(3)
	require.NoError(t, err)
	for range stolen.Messages() {
		continue // only taken away
	}
	_, err = rd.batch(t.Context(), c)
	require.ErrorIs(t, err, errRecordGap)
	require.Len(t, read(t, b, RecordRange{}), len(want))
}

func TestRecordWaitsForACopyThatIsBehind(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	recorded(t, b, time.Now(), 5)
	_, s, err := b.record(t.Context())
	require.NoError(t, err)
	rd := recordReader{bus: b}
	require.NoError(t, rd.ends(t.Context(), s))
	require.ErrorIs(t, rd.ended(t.Context(), s), errRecordBehind)
	require.NoError(t, s.Purge(t.Context()))
	require.NoError(t, rd.ended(t.Context(), s), "it went in the meantime")
}
