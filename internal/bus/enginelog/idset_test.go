package enginelog

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"millrace/subjects"
)

func TestASetOfIDsHasWhatWasAdded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.Custom(func(t *rapid.T) subjects.EngineMessage {
			return subjects.EngineMessage{
				Epoch: rapid.Uint64Range(1, 2).Draw(t, "epoch"), Sequence: rapid.Uint64Range(1, 40).Draw(t, "sequence"),
				Kind: rapid.SampledFrom([]subjects.EngineKind{subjects.EngineRequestKind, subjects.EngineOutcomeKind}).Draw(t, "kind"),
			}
		})
		s, want := newIDSet(), map[subjects.EngineMessage]bool{}
		for _, id := range rapid.SliceOf(ids).Draw(t, "added") {
			s.add(id)
			want[id] = true
		}
		n := 0
		for key, runs := range s.runs {
			n += len(runs)
			for i := 1; i < len(runs); i++ {
				require.Greater(t, runs[i].from, runs[i-1].to+1, "%v", key)
			}
		}
		require.Equal(t, n, s.n)
		for _, id := range rapid.SliceOf(ids).Draw(t, "asked") {
			require.Equal(t, want[id], s.has(id))
		}
	})
}

func TestASetOfIDsIsBounded(t *testing.T) {
	s := newIDSet()
	for n := uint64(1); n <= maxRuns+5; n++ {
		s.add(subjects.EngineMessage{Epoch: 1, Sequence: 2 * n, Kind: 'q'})
	}
	require.Equal(t, maxRuns, s.n)
	require.True(t, s.has(subjects.EngineMessage{Epoch: 1, Sequence: 2, Kind: 'q'}))
	require.False(t, s.has(subjects.EngineMessage{Epoch: 1, Sequence: 2 * (maxRuns + 5), Kind: 'q'}))
	s.add(subjects.EngineMessage{Epoch: 1, Sequence: 3, Kind: 'q'})
	require.Equal(t, maxRuns-1, s.n, "what joins two runs always has room")
}

func TestOnlyTheLastPartMakesARecordWhole(t *testing.T) {
	s := newIDSet()
	part := func(id, chunk string) {
		s.note(nats.Header{"Nats-Msg-Id": {id}, subjects.HeaderChunk: {chunk}})
	}
	part("1.1.q.1.1", "1/2")
	part("no id", "2/2")
	require.Empty(t, s.runs)
	part("1.1.q.1.2", "2/2")
	require.True(t, s.has(subjects.EngineMessage{Epoch: 1, Sequence: 1, Kind: 'q'}))
}
