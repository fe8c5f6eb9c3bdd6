package upkeep

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func at(seconds int) time.Time { return time.Unix(1_700_000_000+int64(seconds), 0) }

func TestHistoryDatesBetweenTheLooks(t *testing.T) {
	var h history
	h.add(10, at(0))
	h.add(10, at(1))
	h.add(20, at(2))
	_, ok := h.dated(10)
	require.False(t, ok, "older than the history")
	_, ok = h.dated(21)
	require.False(t, ok, "not seen yet")
	got, ok := h.dated(15)
	require.True(t, ok)
	require.Equal(t, at(1).Add(500*time.Millisecond), got)
	got, _ = h.dated(20)
	require.Equal(t, at(2), got)
}

func TestHistoryKnowsWhatIsOldEnough(t *testing.T) {
	var h history
	require.Zero(t, h.storedBefore(at(9)))
	h.add(10, at(0))
	h.add(20, at(2))
	h.add(30, at(4))
	require.Zero(t, h.storedBefore(at(0)))
	require.Equal(t, uint64(10), h.storedBefore(at(2)))
	require.Equal(t, uint64(20), h.storedBefore(at(3)))
	h.forget(at(3))
	require.Len(t, h.marks, 2)
	require.Equal(t, uint64(20), h.storedBefore(at(3)))
}

func TestHistoryStartsAgainWhenTimeOrSequenceFalls(t *testing.T) {
	var h history
	h.add(10, at(5))
	h.add(3, at(6))
	require.Len(t, h.marks, 1)
	h.add(4, at(1))
	require.Len(t, h.marks, 1)
	require.Equal(t, uint64(4), h.marks[0].seq)
}

// Whatever the looks were: bounded memory, dates never newer than a look that already had the
// sequence, and nothing called old that is not.
func TestHistoryIsBoundedAndNeverWrong(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var h history
		type look struct {
			seq uint64
			at  time.Time
		}
		var looks []look
		now, seq := at(0), uint64(0)
		for range rapid.IntRange(1, 3*historyMax).Draw(r, "looks") {
			now = now.Add(100 * time.Millisecond)
			seq += uint64(len(looks) % 3)
			h.add(seq, now)
			looks = append(looks, look{seq, now})
		}
		require.LessOrEqual(r, len(h.marks), historyMax)
		l := looks[rapid.IntRange(0, len(looks)-1).Draw(r, "which")]
		if d, ok := h.dated(l.seq); ok {
			require.False(r, d.After(now))
		}
		old := h.storedBefore(l.at)
		for _, k := range looks {
			if k.seq >= old {
				require.True(r, old == 0 || k.at.Before(l.at))
				break
			}
		}
	})
}
