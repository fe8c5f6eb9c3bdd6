package retry

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDelayIsFoundThroughWrapping(t *testing.T) {
	cause := errors.New("busy")
	err := fmt.Errorf("send: %w", After(cause, time.Second))
	d, ok := Delay(err)
	require.True(t, ok)
	require.Equal(t, time.Second, d)
	require.ErrorIs(t, err, cause)
	require.Equal(t, "send: busy", err.Error())
}

func TestOrdinaryErrorIsNotRetryable(t *testing.T) {
	_, ok := Delay(errors.New("no"))
	require.False(t, ok)
	_, ok = Delay(nil)
	require.False(t, ok)
	require.NoError(t, After(nil, time.Second))
}
