package listener

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestVisitsEndWithTheLastWhoLeavesAfterTheyClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := NewVisits()
		require.True(t, v.Enter())
		v.Leave()
		require.True(t, v.Enter(), "empty is not closed")
		require.True(t, v.Enter())
		ended := make(chan error, 1)
		go func() { ended <- v.Wait(t.Context()) }()
		v.Close()
		v.Close()
		require.False(t, v.Enter())
		v.Leave()
		synctest.Wait()
		require.Empty(t, ended, "one is still inside")
		v.Leave()
		require.NoError(t, <-ended)
	})
}

func TestWaitingForVisitsEndsWithItsContext(t *testing.T) {
	t.Parallel()
	late := errors.New("late")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(late)
	v := NewVisits()
	require.True(t, v.Enter())
	v.Close()
	require.ErrorIs(t, v.Wait(ctx), late)
	v.Leave()
	for range 100 {
		require.NoError(t, v.Wait(ctx), "nobody is inside, so it does not matter how late it is")
	}
}
