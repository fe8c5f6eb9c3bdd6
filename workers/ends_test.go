package workers

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"millrace/internal/order"
	"millrace/subjects"
)

// Whatever fails, dies or takes long: an accepted order ends in OK or in one record for all targets,
// never in both, and is acknowledged only then (CORRECTNESS 4, 8, 9).
func TestRule09EveryOrderEndsExactlyOnce(t *testing.T) {
	valid := acceptedBundle(t, sign(t, "a", dynamicTx(1)), sign(t, "a", dynamicTx(2)))
	broken := dynamicTx(3)
	broken.Gas = 20999
	invalid := acceptedBundle(t, sign(t, "a", broken))
	rules := realRules(t)
	rapid.Check(t, func(rt *rapid.T) {
		o := valid
		if rapid.Bool().Draw(rt, "invalid") {
			o = invalid
		}
		faults := rapid.SliceOfN(rapid.SampledFrom([]string{"none", "none", "error", "late", "die"}), 0, 12).Draw(rt, "faults")
		next := func() (fault string) {
			if len(faults) == 0 {
				return "none"
			}
			fault, faults = faults[0], faults[1:]
			return fault
		}
		s := newStore()
		s.fail = func(effect string, done bool) error {
			if effect == "verdict" {
				return nil // lost or not, it decides nothing
			}
			switch next() {
			case "error":
				return errDown
			case "late":
				s.now = s.now.Add(testMaxAge / 3)
			case "die":
				// The one gap that is known (see the package doc): killed while it runs alone, for another
				// reason, when an earlier attempt is in OK.
				if suspect := effect == "mark" || effect == "clear"; suspect && len(s.ok) > 0 {
					return errDown
				}
				die()
			}
			return nil
		}
		end(t, s, o, rules)
		_, inOK := s.ok[subjects.OKMsgID(o)]
		_, recorded := s.records[o.Accept]
		require.NotEqual(rt, inOK, recorded, "in OK %v, recorded %v, after %v", inOK, recorded, s.trail)
		if o == invalid {
			require.True(rt, recorded)
		}
	})
}

// end delivers o until a worker acknowledges it, a new process life after each death.
func end(t *testing.T, s *store, o *order.Order, rules Rules) {
	t.Helper()
	life := 1
	for n := 1; n < 50; n++ {
		err := start(t, s, life, rules).deliver(delivery(o, n))
		switch {
		case err == nil, order.AsReason(err) != nil:
			return
		case errors.Is(err, errDied):
			life++
		}
		s.now = s.now.Add(time.Second)
	}
	require.Fail(t, "no end")
}
