package egress

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRule13RecordsAreWrittenInBatchesBeforeTheAcks(t *testing.T) {
	to := &sink{reply: accept}
	s := bubble(t, to, func(t *testing.T, s *store, _ *running) {
		t.Helper()
		for n := range 640 {
			put(s, spec{content: n})
		}
		time.Sleep(time.Second)
		require.Zero(t, s.unacked())
	})
	require.Len(t, s.entries(), 640)
	require.LessOrEqual(t, len(s.batches), 30)
}

func TestRule13SendsPauseWhenAWindowIsUnrecorded(t *testing.T) {
	to := &sink{reply: accept}
	s := bubble(t, to, func(t *testing.T, s *store, _ *running) {
		t.Helper()
		s.set(func(s *store) { s.refuse = context.DeadlineExceeded })
		for n := range 1000 {
			put(s, spec{content: n})
		}
		time.Sleep(time.Second)
		require.Len(t, to.all(), 256)
		require.Equal(t, 1000, s.unacked())
		s.set(func(s *store) { s.refuse = nil })
	})
	require.Len(t, s.entries(), 1000)
	require.Len(t, s.outcomes(), 1000)
}
