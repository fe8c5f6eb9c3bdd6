package bus

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/subjects"
)

func tail(tb testing.TB, l *DoneLog, since time.Time) []string {
	tb.Helper()
	var got []string
	require.NoError(tb, l.Tail(tb.Context(), since, func(b []byte) error { got = append(got, string(b)); return nil }))
	return got
}

func TestLedgerReadsBackWhatWasAppended(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s)
	l := b.Done("builder")
	require.ErrorIs(t, l.Append(t.Context(), []byte("early")), errLedgerUnread)
	begun := time.Now().Add(-time.Minute)
	require.Empty(t, tail(t, l, begun))
	other := b.Done("other")
	require.Empty(t, tail(t, other, begun))
	var want []string
	for i := range 300 {
		want = append(want, fmt.Sprint(i))
		require.NoError(t, l.Append(t.Context(), []byte(want[i])))
		require.NoError(t, other.Append(t.Context(), []byte("x")))
	}
	require.Equal(t, want, tail(t, b.Done("builder"), begun))
	require.Empty(t, tail(t, b.Done("builder"), time.Now().Add(time.Minute)))
	broken := errors.New("enough")
	require.ErrorIs(t, b.Done("builder").Tail(t.Context(), begun, func([]byte) error { return broken }), broken)
}

func TestRule11LoserOfTheLedgerStops(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	a, b := testBus(t, s).Done("x"), testBus(t, s).Done("x")
	tail(t, a, time.Now())
	tail(t, b, time.Now())
	require.NoError(t, a.Append(t.Context(), []byte("one")))
	require.ErrorIs(t, b.Append(t.Context(), []byte("two")), order.ErrFenced)
	require.NoError(t, a.Append(t.Context(), []byte("three")))
	require.Equal(t, []string{"one", "three"}, tail(t, b, time.Now().Add(-time.Minute)))
	require.NoError(t, b.Append(t.Context(), []byte("four")), "it read the tail, so it owns the target")
	require.ErrorIs(t, a.Append(t.Context(), []byte("five")), order.ErrFenced)
}

func TestRule11OwnRetryAfterALostAckIsRecognised(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s)
	l := b.Done("x")
	tail(t, l, time.Now())
	require.NoError(t, l.Append(t.Context(), []byte("one")))
	before := l.last
	require.NoError(t, l.Append(t.Context(), []byte("two")))
	l.last = before // as if the answer to it had not come
	require.NoError(t, l.Append(t.Context(), []byte("two")))
	require.NoError(t, l.Append(t.Context(), []byte("three")))
	require.Equal(t, []string{"one", "two", "three"}, tail(t, l, time.Now().Add(-time.Minute)))
}

func TestLedgerGoesOnWhenItsLastBatchIsGone(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s)
	l := b.Done("x")
	tail(t, l, time.Now())
	require.NoError(t, l.Append(t.Context(), []byte("one")))
	st, err := s.JetStream(t).Stream(t.Context(), subjects.StreamDone)
	require.NoError(t, err)
	require.NoError(t, st.Purge(t.Context()))
	require.NoError(t, l.Append(t.Context(), []byte("two")))
}

func TestRule13AppendHoldsOnOverARestart(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s)
	l := b.Done("x")
	tail(t, l, time.Now())
	require.NoError(t, l.Append(t.Context(), []byte("one")))
	s.Stop()
	done := make(chan error, 1)
	go func() { done <- l.Append(t.Context(), []byte("two")) }()
	s.Restart(t)
	require.NoError(t, <-done)
	require.Equal(t, []string{"one", "two"}, tail(t, l, time.Now().Add(-time.Minute)))

	s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, l.Append(ctx, []byte("three")), order.ErrUnavailable)
}

func TestLedgerReportsBothStreams(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	l := b.Done("x")
	tail(t, l, time.Now())
	require.NoError(t, l.Append(t.Context(), []byte("done")))
	require.NoError(t, b.RecordRejected(t.Context(), &order.Order{Priority: order.PriorityLow, Accept: order.NewAcceptID(time.Now())}, []byte("rejected")))
	var got []string
	require.NoError(t, b.Ledger(t.Context(), time.Now().Add(-time.Minute), func(subject string, batch []byte, stored time.Time) error {
		require.WithinDuration(t, time.Now(), stored, soon)
		got = append(got, subject+"="+string(batch))
		return nil
	}))
	require.Equal(t, []string{"orders.done.x=done", "orders.rejected.low=rejected"}, got)
}
