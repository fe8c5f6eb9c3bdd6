package egress

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/ledger"
)

func TestRule16NewestFirstAfterAnOutage(t *testing.T) {
	down := true
	to := &sink{reply: func(int, Attempt) (Result, time.Duration) {
		if down {
			return away, 0
		}
		return taken, 10 * time.Millisecond
	}}
	var accepted []int
	s := bubble(t, to, func(_ *testing.T, s *store, r *running) {
		for n := range 200 {
			put(s, spec{content: n, key: n%200 + 1, nonce: uint64(n), age: 30 * time.Second})
		}
		time.Sleep(time.Second)
		require.Equal(t, []string{"b"}, r.d.Down())
		require.Less(t, len(to.all()), 70, "one at a time while it is down")
		to.mu.Lock()
		down = false
		to.mu.Unlock()
		time.Sleep(5 * time.Second)
		require.Empty(t, r.d.Down())
	})
	for _, c := range to.all() {
		if c.verdict == Accepted {
			accepted = append(accepted, int(c.o.Nonce))
		}
	}
	require.Len(t, accepted, 200)
	require.Equal(t, 199, accepted[0])
	require.True(t, slices.IsSortedFunc(accepted[:100], func(a, b int) int { return b - a }) || accepted[99] < 120)
	require.Equal(t, 200, count(s, ledger.Delivered))
}

func TestADownTargetNeverStopsTheAccounting(t *testing.T) {
	to := &sink{reply: script(away)}
	s := bubble(t, to, func(t *testing.T, s *store, _ *running) {
		t.Helper()
		for n := range 5000 {
			put(s, spec{content: n})
		}
		time.Sleep(testAge + time.Second)
		require.Zero(t, s.unacked())
	})
	require.Equal(t, 5000, count(s, ledger.Expired))
	require.Less(t, len(to.all()), 100)
}
