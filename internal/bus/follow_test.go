package bus

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/subjects"
)

// followed reads what a follower has behind a place.
func followed(t *testing.T, f *Follower, after order.Place) ([]order.Logged, order.Place) {
	t.Helper()
	var got []order.Logged
	to, err := f.Read(t.Context(), after, func(e order.Logged) error {
		got = append(got, e)
		return nil
	})
	require.NoError(t, err)
	return got, to
}

func TestFollowerReadsEachMessageOnceFromWhereItsUserIs(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	const n = 2*followOrders + 7
	var sent []*order.Order
	for range n {
		o := testOrder(order.PriorityLow)
		o.Trail = &order.Trail{InSequence: 9, InStoredAt: o.ReceivedAt, Attempts: 1}
		o.Trail.Mark(common.Hash{1})
		_, err := b.PublishOK(t.Context(), o)
		require.NoError(t, err)
		sent = append(sent, o)
	}
	f := b.Follow(order.LogLow)
	got, to := followed(t, f, order.Place{})
	require.Len(t, got, n)
	for i, e := range got {
		require.Equal(t, uint64(i)+1, e.Sequence)
		require.Equal(t, sent[i].Accept, e.Order.Accept)
		require.Empty(t, e.Order.Body, "headers alone")
		require.Equal(t, sent[i].Trail, e.Order.Trail)
		require.WithinDuration(t, time.Now(), e.StoredAt, soon)
	}
	require.Equal(t, uint64(n), to.Sequence)

	none, same := followed(t, f, to)
	require.Empty(t, none)
	require.Equal(t, to, same)
	_, err := b.PublishOK(t.Context(), testOrder(order.PriorityLow))
	require.NoError(t, err)
	// The server tells a consumer that is there of a message after it has acknowledged it.
	got = nil
	for end := time.Now().Add(soon); len(got) == 0 && time.Now().Before(end); {
		got, to = followed(t, f, to)
	}
	require.Len(t, got, 1)
	require.Equal(t, uint64(n)+1, to.Sequence)
	require.Nil(t, got[0].Order.Trail, "an older version's has none")

	again, _ := followed(t, b.Follow(order.LogLow), order.Place{Epoch: to.Epoch, Sequence: n - 1})
	require.Len(t, again, 2)
}

func TestFollowerStartsOverInAnotherLifeOfItsLog(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	_, err := b.PublishOK(t.Context(), testOrder(order.PriorityHigh))
	require.NoError(t, err)
	_, to := followed(t, b.Follow(order.LogHigh), order.Place{})
	got, _ := followed(t, b.Follow(order.LogHigh), order.Place{Epoch: to.Epoch + 1, Sequence: 1})
	require.Len(t, got, 1)
	got, _ = followed(t, b.Follow(order.LogHigh), order.Place{Epoch: to.Epoch, Sequence: 1000})
	require.Len(t, got, 1, "beyond the end: the stream was rolled back")
}

func TestFollowerGoesOnBehindWhatWasPurged(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	for range 5 {
		_, err := b.PublishOK(t.Context(), testOrder(order.PriorityHigh))
		require.NoError(t, err)
	}
	st, err := js.Stream(t.Context(), subjects.StreamOK(order.PriorityHigh))
	require.NoError(t, err)
	require.NoError(t, st.Purge(t.Context(), jetstream.WithPurgeSequence(4)))
	got, _ := followed(t, b.Follow(order.LogHigh), order.Place{})
	require.Len(t, got, 2)
	require.Equal(t, uint64(4), got[0].Sequence)
}

func TestFollowerReadsRecordsWithTheirTargets(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	l := b.Done("builder-1")
	tail(t, l, time.Now())
	require.NoError(t, l.Append(t.Context(), []byte("done")))
	o := testOrder(order.PriorityLow)
	o.Trail = &order.Trail{InSequence: 3, Attempts: 1}
	require.NoError(t, b.RecordRejected(t.Context(), o, []byte("rejected")))

	got, _ := followed(t, b.Follow(order.LogDone), order.Place{})
	require.Len(t, got, 1)
	require.Equal(t, "builder-1", got[0].Target)
	require.Equal(t, "done", string(got[0].Batch))
	got, _ = followed(t, b.Follow(order.LogRejected), order.Place{})
	require.Len(t, got, 1)
	require.Equal(t, "*", got[0].Target)
	require.Equal(t, "rejected", string(got[0].Batch))
	trail, ok := got[0].Trail(o.Accept)
	require.True(t, ok)
	require.Equal(t, uint64(3), trail.InSequence)
}

func TestFollowerSurvivesItsConsumerAndItsServer(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s)
	publish := func() {
		t.Helper()
		_, err := b.PublishOK(t.Context(), testOrder(order.PriorityHigh))
		require.NoError(t, err)
	}
	publish()
	f := b.Follow(order.LogHigh)
	_, to := followed(t, f, order.Place{})
	s.Stop()
	s.Restart(t)
	require.Eventually(t, func() bool {
		_, err := f.Read(t.Context(), to, func(order.Logged) error { return nil })
		return err == nil
	}, soon, tick)
	publish()
	var got []order.Logged
	require.Eventually(t, func() bool {
		var err error
		to, err = f.Read(t.Context(), to, func(e order.Logged) error {
			got = append(got, e)
			return nil
		})
		return err == nil && len(got) > 0
	}, soon, tick)
	require.Len(t, got, 1)
	require.Equal(t, uint64(2), got[0].Sequence)
}

func TestFollowerKeepsItsPlaceWhenItsUserFails(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	for range 3 {
		_, err := b.PublishOK(t.Context(), testOrder(order.PriorityHigh))
		require.NoError(t, err)
	}
	fault := errors.New("full")
	f := b.Follow(order.LogHigh)
	to, err := f.Read(t.Context(), order.Place{}, func(e order.Logged) error {
		if e.Sequence == 2 {
			return fault
		}
		return nil
	})
	require.ErrorIs(t, err, fault)
	require.Equal(t, uint64(1), to.Sequence)
	got, _ := followed(t, f, to)
	require.Len(t, got, 2)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.Follow(order.LogHigh).Read(ctx, order.Place{}, func(order.Logged) error { return nil })
	require.Error(t, err)
}

func TestFollowersHoldNoPurgeBack(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	_, err := b.PublishOK(t.Context(), testOrder(order.PriorityHigh))
	require.NoError(t, err)
	_, _ = followed(t, b.Follow(order.LogHigh), order.Place{})
	st, err := js.Stream(t.Context(), subjects.StreamOK(order.PriorityHigh))
	require.NoError(t, err)
	for name := range st.ConsumerNames(t.Context()).Name() {
		require.NotContains(t, name, subjects.TargetDurable(""), "what the purge waits for")
	}
}

func BenchmarkFollow(b *testing.B) {
	s := natstest.Start(b)
	bus := testBus(b, s)
	o := testOrder(order.PriorityHigh)
	o.Signature = "X-Flashbots-Signature: 0x0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
	o.Body = make([]byte, 3000)
	for range 10_000 {
		o.Accept = order.NewAcceptID(time.Now())
		copy(o.ID[:], o.Accept[:])
		o.Trail = &order.Trail{InSequence: 1, InStoredAt: time.Now(), Attempts: 1, Marks: make([]byte, 3*order.MarkSize)}
		_, err := bus.PublishOK(b.Context(), o)
		require.NoError(b, err)
	}
	f, n := bus.Follow(order.LogHigh), 0
	b.ReportAllocs()
	for b.Loop() {
		if n == 0 {
			_, err := f.Read(b.Context(), order.Place{}, func(order.Logged) error { n++; return nil })
			require.NoError(b, err)
		}
		n--
	}
}
