package upkeep

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"millrace/internal/order"
	"millrace/subjects"
)

func TestRule07BurnMovesTheSequenceAndKeepsTheOrders(t *testing.T) {
	t.Parallel()
	s, js := started(t)
	in := subjects.StreamIn(order.PriorityHigh)
	ok := subjects.StreamOK(order.PriorityLow)
	publish(t, js, subjects.In(order.PriorityHigh, 1), 3)
	publish(t, js, subjects.OK("", order.PriorityLow, 1), 2)
	require.NoError(t, Burn(t.Context(), js, []string{in, ok}, BurnCount))

	for stream, orders := range map[string]uint64{in: 3, ok: 2} {
		st := state(t, js, stream)
		require.Equal(t, orders+BurnCount, st.LastSeq)
		require.Equal(t, orders, st.Msgs)
		require.Equal(t, uint64(1), st.FirstSeq)
	}
	// The burnt sequences stay burnt when the process dies.
	s.Kill(t)
	eventually(t, func() bool {
		st, err := js.Stream(t.Context(), in)
		return err == nil && st.CachedInfo().State.LastSeq == 3+BurnCount && st.CachedInfo().State.Msgs == 3
	})
}

func TestRule07BurnWorksOnAFullStream(t *testing.T) {
	t.Parallel()
	_, js := started(t)
	cfg := subjects.Streams(testOptions())[0]
	cfg.MaxBytes = 4 << 10
	_, err := js.UpdateStream(t.Context(), cfg)
	require.NoError(t, err)
	var full error
	for full == nil {
		_, full = js.Publish(t.Context(), subjects.In(order.PriorityHigh, 0), make([]byte, 512))
	}
	before := state(t, js, cfg.Name)
	require.NoError(t, Burn(t.Context(), js, []string{cfg.Name}, 1000))
	after := state(t, js, cfg.Name)
	require.Equal(t, before.Msgs, after.Msgs)
	require.Equal(t, before.LastSeq+1000, after.LastSeq)
	st, err := js.Stream(t.Context(), cfg.Name)
	require.NoError(t, err)
	require.Equal(t, int64(4<<10), st.CachedInfo().Config.MaxBytes)
}

func TestBurnRefusesAStreamWithoutVoidSubject(t *testing.T) {
	t.Parallel()
	_, js := started(t)
	require.ErrorContains(t, Burn(t.Context(), js, []string{subjects.StreamDone}, 1), "void")
}

// The machine dies: IN comes back without its last messages, RECORD with all of them.
func TestRule07SourceOfARolledBackStreamGoesOnAfterBurn(t *testing.T) {
	t.Parallel()
	s, js := started(t)
	in, high := subjects.StreamIn(order.PriorityHigh), subjects.In(order.PriorityHigh, 0)
	publish(t, js, high, 10)
	recorded := func(n uint64) func() bool {
		return func() bool {
			st, err := js.Stream(t.Context(), subjects.StreamRecord)
			if err != nil {
				return false
			}
			info, err := st.Info(t.Context(), jetstream.WithSubjectFilter(high))
			return err == nil && info.State.Subjects[high] == n
		}
	}
	eventually(t, recorded(10))
	early := s.Snapshot(t)
	publish(t, js, high, 5)
	eventually(t, recorded(15))
	s.RollbackStream(t, early, in)
	eventually(t, func() bool { return s.Health() == nil && state(t, js, in).LastSeq == 10 })
	require.Equal(t, uint64(15), state(t, js, subjects.StreamRecord).Msgs)

	require.NoError(t, Burn(t.Context(), js, []string{in}, 100))
	publish(t, js, high, 7)
	eventually(t, recorded(22))
}

// Without burning, the same ends with orders that RECORD never sees: the reason for the rule.
func TestRule07SourceOfARolledBackStreamSkipsSilentlyWithoutBurn(t *testing.T) {
	t.Parallel()
	s, js := started(t)
	in, high := subjects.StreamIn(order.PriorityHigh), subjects.In(order.PriorityHigh, 0)
	publish(t, js, high, 10)
	early := s.Snapshot(t)
	publish(t, js, high, 5)
	eventually(t, func() bool { return state(t, js, subjects.StreamRecord).Msgs == 15 })
	s.RollbackStream(t, early, in)
	publish(t, js, high, 7) // sequences 11 to 17, of which RECORD has seen 11 to 15 before
	eventually(t, func() bool { return state(t, js, subjects.StreamRecord).Msgs >= 17 })
	require.Equal(t, uint64(17), state(t, js, subjects.StreamRecord).Msgs, "five of seven are missing")
}
