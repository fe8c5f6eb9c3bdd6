package bus

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/natstest"
	"millrace/internal/order"
	"millrace/internal/retry"
	"millrace/subjects"
)

func TestRule11LeaseHasOneHolderAndGoesOnWhenReleased(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	a, b := testBus(t, s), testBus(t, s)
	var holders, most, turns atomic.Int32
	work := func(_ context.Context, valid func() bool) error {
		if n := holders.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer holders.Add(-1)
		if !valid() {
			return errors.New("held but not valid")
		}
		turns.Add(1)
		return nil
	}
	done := make(chan error, 6)
	for _, bus := range []*Bus{a, b} {
		for range 3 {
			go func() { done <- bus.Hold(t.Context(), "target-x", work) }()
		}
	}
	for range 6 {
		require.NoError(t, <-done)
	}
	require.Equal(t, int32(1), most.Load())
	require.Equal(t, int32(6), turns.Load())
}

func TestRule11DeadOwnersLeaseIsTakenAfterItRanOut(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	a, b := testBus(t, s), testBus(t, s)
	dead := &lease{bus: a, name: "x", holding: "gone"}
	require.NoError(t, dead.acquire(t.Context())) // and never renewed
	begun := time.Now()
	require.NoError(t, b.Hold(t.Context(), "x", func(context.Context, func() bool) error {
		require.False(t, dead.valid(), "the old owner's lease ends before the new one's begins")
		return nil
	}))
	require.GreaterOrEqual(t, time.Since(begun), leaseTTL-leasePoll)
}

func TestRule11HolderThatIsOvertakenStops(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s)
	err := b.Hold(t.Context(), "x", func(ctx context.Context, valid func() bool) error {
		kv, err := b.bucket(ctx, subjects.BucketLeases)
		require.NoError(t, err)
		_, err = kv.Put(ctx, "x", []byte("somebody else"))
		require.NoError(t, err)
		<-ctx.Done()
		require.False(t, valid())
		return context.Cause(ctx)
	})
	require.ErrorIs(t, err, order.ErrFenced)
}

func TestRule11LeaseEndsByItselfWhenTheBusIsAway(t *testing.T) {
	t.Parallel()
	s := natstest.Start(t)
	b := testBus(t, s)
	err := b.Hold(t.Context(), "x", func(ctx context.Context, valid func() bool) error {
		s.Stop()
		require.True(t, valid())
		require.Eventually(t, func() bool { return !valid() }, soon, tick)
		<-ctx.Done()
		return nil
	})
	require.ErrorIs(t, err, order.ErrFenced)
	s.Restart(t)
	require.NoError(t, b.Hold(t.Context(), "x", func(context.Context, func() bool) error { return nil }))
}

func TestLeaseIsRenewedForAsLongAsItIsHeld(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	require.NoError(t, b.Hold(t.Context(), "x", func(ctx context.Context, valid func() bool) error {
		end := time.Now().Add(leaseTTL + leaseRenew)
		for time.Now().Before(end) {
			require.True(t, valid())
			require.NoError(t, ctx.Err())
			retry.Pause(ctx, 10*time.Millisecond)
		}
		return nil
	}))
}

func TestRenewalWhoseAnswerWasLostIsRecognised(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	l := &lease{bus: b, name: "x", holding: "h"}
	require.NoError(t, l.acquire(t.Context()))
	kv, err := b.bucket(t.Context(), subjects.BucketLeases)
	require.NoError(t, err)
	_, err = kv.Update(t.Context(), "x", l.value(), l.revision) // stored, not heard of
	require.NoError(t, err)
	err = l.write(t.Context(), kv, l.revision)
	require.Equal(t, fateRefused, judge(err))
	require.True(t, l.adopt(t.Context(), kv))
	require.NoError(t, l.write(t.Context(), kv, l.revision))
}

func TestWaitForALeaseEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := testBus(t, natstest.Start(t))
	require.NoError(t, b.Hold(t.Context(), "x", func(ctx context.Context, _ func() bool) error {
		waiting, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		err := b.Hold(waiting, "x", func(context.Context, func() bool) error { return errors.New("two holders") })
		require.ErrorIs(t, err, context.DeadlineExceeded)
		return nil
	}))
}
