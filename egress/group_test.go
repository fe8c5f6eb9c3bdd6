package egress

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

func TestRule14ANewerOrderWaitsForTheOneOnTheWire(t *testing.T) {
	to := &sink{reply: func(int, Attempt) (Result, time.Duration) { return taken, 100 * time.Millisecond }}
	s := bubble(t, to, func(_ *testing.T, s *store, _ *running) {
		put(s, spec{content: 1, key: 1, nonce: 1})
		synctest.Wait()
		for _, nonce := range []uint64{2, 4, 3} {
			put(s, spec{content: int(nonce), key: 1, nonce: nonce})
		}
	})
	require.Equal(t, []uint64{1, 4}, nonces(to))
	require.Zero(t, to.twice)
	require.Equal(t, 2, count(s, ledger.Superseded))
}

func TestRule14ANewerOrderPassesAnOlderInBackoff(t *testing.T) {
	for name, c := range map[string]struct {
		answers []Result
		want    []uint64
		late    ledger.Outcome
	}{
		"and supersedes it when it is taken":      {[]Result{busy, taken}, []uint64{1, 2}, ledger.Superseded},
		"which goes on when the newer is refused": {[]Result{busy, refused, taken}, []uint64{1, 2, 1}, ledger.Delivered},
	} {
		t.Run(name, func(t *testing.T) {
			to := &sink{reply: script(c.answers...)}
			var older *order.Order
			s := bubble(t, to, func(_ *testing.T, s *store, _ *running) {
				older = put(s, spec{content: 1, key: 1, nonce: 1})
				synctest.Wait()
				put(s, spec{content: 2, key: 1, nonce: 2})
			})
			require.Equal(t, c.want, nonces(to))
			require.Equal(t, c.late, s.outcomes()[older.Accept].Outcome)
		})
	}
}

func TestRule14APeersOrderNeverSupersedesALocalOne(t *testing.T) {
	to := &sink{reply: accept}
	s := bubble(t, to, func(_ *testing.T, s *store, _ *running) {
		put(s, spec{content: 1, key: 1, nonce: 9, origin: "peer"})
		synctest.Wait()
		put(s, spec{content: 2, key: 1, nonce: 1})
	})
	require.Equal(t, 2, count(s, ledger.Delivered))
}

func TestRule14TheFloorOutlivesTheOwner(t *testing.T) {
	var s *store
	to := &sink{reply: accept}
	synctest.Test(t, func(t *testing.T) {
		s = newStore()
		r := run(t, s, to, Config{})
		put(s, spec{content: 1, key: 1, nonce: 5})
		time.Sleep(500 * time.Millisecond)
		r.kill()
		r.stop()
		r = run(t, s, to, Config{})
		put(s, spec{content: 2, key: 1, nonce: 4})
		time.Sleep(3 * testAge)
		r.stop()
	})
	require.Equal(t, []uint64{5}, nonces(to))
	require.Equal(t, 1, count(s, ledger.Superseded))
}
