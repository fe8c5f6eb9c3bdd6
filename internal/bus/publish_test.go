package bus

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/subjects"
)

func TestPublishStoresTheOrderWithItsHeaders(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	o := testOrder(order.PriorityMedium)
	r, err := b.Publish(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, order.Receipt{Sequence: 1}, r)
	st, err := js.Stream(t.Context(), "IN_MEDIUM")
	require.NoError(t, err)
	raw, err := st.GetMsg(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, subjects.In(order.PriorityMedium, subjects.Partition(o, 4)), raw.Subject)
	back, err := subjects.DecodeOrder(raw.Header, raw.Data)
	require.NoError(t, err)
	require.Equal(t, o.Accept, back.Accept)
	require.Equal(t, o.Body, back.Body)
}

func TestRepeatWithinTheWindowIsNotStoredAgain(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	o := testOrder(order.PriorityHigh)
	first, err := b.Publish(t.Context(), o)
	require.NoError(t, err)
	again, err := b.Publish(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, order.Receipt{Duplicate: true, Sequence: first.Sequence}, again)
	require.InDelta(t, 1, testutil.ToFloat64(b.m.duplicates.WithLabelValues(stageIn, "high")), 0)
}

func TestRule04PublishThatIsNotAnsweredIsUnavailableAndNeverStoredLater(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s)
	o := testOrder(order.PriorityHigh)
	_, err := b.Publish(t.Context(), testOrder(order.PriorityHigh)) // opens the connection
	require.NoError(t, err)
	s.Stop()
	_, err = b.Publish(t.Context(), o)
	require.ErrorIs(t, err, order.ErrUnavailable)
	s.Restart(t)
	var r order.Receipt
	require.Eventually(t, func() bool { r, err = b.Publish(t.Context(), o); return err == nil }, soon, tick)
	require.False(t, r.Duplicate, "the reconnect buffer must not have stored it behind our back")
}

func TestRule04PublishIsRetriedWithTheSameIDOverARestart(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	var mu sync.Mutex
	stored := make(map[order.ID]bool)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 200 {
				o := testOrder(order.PriorityHigh)
				for {
					_, err := b.Publish(t.Context(), o)
					if err == nil {
						break
					}
					if !errors.Is(err, order.ErrUnavailable) {
						t.Errorf("publish: %v", err)
						return
					}
				}
				mu.Lock()
				stored[o.ID] = true
				mu.Unlock()
			}
		})
	}
	require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(stored) > 500 }, soon, time.Millisecond)
	s.Restart(t)
	wg.Wait()
	st, err := js.Stream(t.Context(), "IN_HIGH")
	require.NoError(t, err)
	require.Equal(t, uint64(len(stored)), st.CachedInfo().State.Msgs, "each acknowledged order once")
}

func TestFullStreamIsErrFullAndPublishOKHoldsOn(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s, func(o *subjects.Options) { o.InMaxBytes, o.OKMaxBytes = 64<<10, 64<<10 })
	js := s.JetStream(t)
	var err error
	for range 1000 {
		o := testOrder(order.PriorityLow)
		o.Body = make([]byte, 8<<10)
		if _, err = b.Publish(t.Context(), o); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, order.ErrFull)

	for range 7 {
		o := testOrder(order.PriorityLow)
		o.Body = make([]byte, 8<<10)
		_, err := b.PublishOK(t.Context(), o)
		require.NoError(t, err)
	}
	held := make(chan error, 1)
	go func() {
		o := testOrder(order.PriorityLow)
		o.Body = make([]byte, 8<<10)
		_, err := b.PublishOK(t.Context(), o)
		held <- err
	}()
	full := b.m.full.WithLabelValues(stageOK, "low")
	require.Eventually(t, func() bool { return testutil.ToFloat64(full) > 1 }, soon, tick)
	st, err := js.Stream(t.Context(), "OK_LOW")
	require.NoError(t, err)
	require.NoError(t, st.Purge(t.Context()))
	require.NoError(t, <-held, "an accepted order is held, not handed back (rule 8)")
}

func TestRule10PeersCopyDoesNotPreEmptTheLocalOne(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	local := testOrder(order.PriorityHigh)
	peer := *local
	peer.Origin = "peer-1"
	for _, o := range []*order.Order{&peer, local} {
		r, err := b.PublishOK(t.Context(), o)
		require.NoError(t, err)
		require.False(t, r.Duplicate)
	}
	r, err := b.PublishOK(t.Context(), local)
	require.NoError(t, err)
	require.True(t, r.Duplicate, "a worker's own retry is stored once")
}

func TestOrderThatIsTooLargeIsNeitherFullNorUnavailable(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	o := testOrder(order.PriorityLow)
	o.Body = make([]byte, 2<<20)
	_, err := b.PublishOK(t.Context(), o)
	require.Error(t, err)
	require.NotErrorIs(t, err, order.ErrFull)
	require.NotErrorIs(t, err, order.ErrUnavailable)
}

func TestRecordRejectedIsStoredOncePerAcceptance(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b, js := testBus(t, s), s.JetStream(t)
	o := &order.Order{Priority: order.PriorityLow, Accept: order.NewAcceptID(time.Now())}
	for range 3 {
		require.NoError(t, b.RecordRejected(t.Context(), o, []byte("entry")))
	}
	st, err := js.Stream(t.Context(), subjects.StreamRejected)
	require.NoError(t, err)
	require.Equal(t, uint64(1), st.CachedInfo().State.Msgs)
}

func TestJudgeTakesForRefusedOnlyWhatTheStoreRefused(t *testing.T) {
	api := func(code int, e jetstream.ErrorCode, text string) error {
		return fmt.Errorf("nats: %w", &jetstream.APIError{Code: code, ErrorCode: e, Description: text})
	}
	for _, c := range []struct {
		err  error
		want fate
	}{
		{nil, fateStored},
		{nats.ErrTimeout, fateUnknown},
		{nats.ErrNoResponders, fateUnknown},
		{nats.ErrReconnectBufExceeded, fateUnknown},
		{errBadAck, fateUnknown},
		{api(503, codeStoreFailed, "maximum bytes exceeded"), fateFull},
		{api(503, codeStoreFailed, "write error"), fateUnknown},
		{api(503, codeInsufficient, "insufficient resources"), fateFull},
		{api(500, codeStoreExceeded, "insufficient storage resources available"), fateFull},
		{api(409, codeInProcess, "duplicate message id is in process"), fateUnknown},
		{api(400, 10054, "message size exceeds maximum allowed"), fateRefused},
		{api(503, 10008, "JetStream system temporarily unavailable"), fateUnknown},
		{nats.ErrMaxPayload, fateRefused},
	} {
		require.Equal(t, c.want, judge(c.err), "%v", c.err)
	}
}
