package workers

import (
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"millrace/internal/ledger"
	"millrace/internal/order"
	"millrace/subjects"
)

// Whatever fails, dies, takes long or is forgotten, whoever else holds the order at any moment: an
// accepted order ends in OK or in one record for all targets, never in both, and is acknowledged only
// then (CORRECTNESS 4, 8, 9).
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
		h := &history{t: t, store: newStore(), order: o, rules: rules}
		h.faults = rapid.SliceOfN(rapid.SampledFrom([]string{"none", "none", "error", "late", "die", "other"}), 0, 16).Draw(rt, "faults")
		h.store.fail = h.next
		h.end()
		h.agree(rt)
		// The server dies and forgets the acknowledgement.
		for range rapid.IntRange(0, 2).Draw(rt, "forgotten") {
			h.deliveries = 0
			h.store.advance(rapid.SampledFrom([]time.Duration{0, time.Second, testMaxAge}).Draw(rt, "away"))
			h.end()
			h.agree(rt)
		}
		require.Empty(rt, h.marks, "nobody is under suspicion")
	})
}

// history is what befalls one order.
type history struct {
	*store
	t          *testing.T
	order      *order.Order
	rules      Rules
	faults     []string
	deliveries int  // as the consumer counts them
	lives      int  // of worker processes
	seen       bool // the next delivery may not be the first
	depth      int  // workers that are at it
}

// next is the fault before or after one effect.
func (h *history) next(effect string, _ bool) error {
	if effect == "verdict" || len(h.faults) == 0 {
		return nil // a verdict, lost or not, decides nothing
	}
	fault := h.faults[0]
	h.faults = h.faults[1:]
	switch fault {
	case "error":
		return errDown
	case "late":
		h.advance(testMaxAge / 3)
	case "die":
		die()
	case "other": // the acknowledgement was waited for too long
		if h.depth < 3 {
			h.end()
		}
	}
	return nil
}

// end delivers the order until a worker acknowledges it, to a new process after each death.
func (h *history) end() {
	h.depth++
	defer func() { h.depth-- }()
	h.lives++
	life := h.lives
	for range 50 {
		h.deliveries++
		d := delivery(h.order, h.deliveries)
		d.Seen, h.seen = h.seen, true
		h.hold()
		err := start(h.t, h.store, life, h.rules).deliver(d)
		switch {
		case err == nil, order.AsReason(err) != nil:
			return
		case errors.Is(err, errDied):
			h.lives++
			life = h.lives
		}
		h.advance(time.Second)
	}
	panic("no end")
}

// hold is what happens while the order waits in a process: to it this is still what it was handed.
func (h *history) hold() {
	for len(h.faults) > 0 && (h.faults[0] == "late" || h.faults[0] == "other" && h.depth < 3) {
		_ = h.next("", true)
	}
}

func (h *history) agree(rt *rapid.T) {
	_, inOK := h.ok[subjects.OKMsgID(h.order)]
	_, recorded := h.records[h.order.Accept]
	require.NotEqual(rt, inOK, recorded, "in OK %v, recorded %v, after %v", inOK, recorded, h.trail)
	_, refused := h.refusals[h.order.ID]
	require.False(rt, inOK && refused, "refused and in OK, after %v", h.trail)
}

// What one version of the rules refused another one may allow, and the other way round.
func TestRule09ARecordedOrderIsNotValidatedIntoOK(t *testing.T) {
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	s := newStore()
	require.NotNil(t, order.AsReason(start(t, s, 1, refuseWith(order.Refuse(order.CodeGasLimit, "too much"))).deliver(delivery(o, 1))))
	s.trail = nil
	p := start(t, s, 2, anything)
	require.NoError(t, p.deliver(delivery(o, 2)))
	require.Equal(t, []string{"look"}, s.trail)
	require.Len(t, s.records, 1)
	require.InDelta(t, 1, testutil.ToFloat64(p.metrics.repeats), 0)

	s = newStore()
	require.NoError(t, start(t, s, 1, anything).deliver(delivery(o, 1)))
	require.NoError(t, start(t, s, 2, refuseWith(order.Refuse(order.CodeGasLimit, "too much"))).deliver(delivery(o, 2)))
	require.Empty(t, s.records)
	require.Empty(t, s.refusals)
}

// Order of effects: nobody reads of an end that is not decided, and a record is the last thing that
// counts.
func TestRule09AnEndIsClaimedThenRefusedThenRecordedThenTold(t *testing.T) {
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	s := newStore()
	reason := order.Refuse(order.CodeGasLimit, "too much")
	require.Equal(t, reason, order.AsReason(start(t, s, 1, refuseWith(reason)).deliver(delivery(o, 2))))
	require.Equal(t, []string{"claim", "refusal", "record", "verdict"}, s.trail)
	for _, effect := range []string{"claim", "refusal", "record"} {
		for _, after := range []bool{false, true} {
			s := newStore()
			s.fail = func(e string, done bool) error {
				if e == effect && done == after {
					die()
				}
				return nil
			}
			require.ErrorIs(t, start(t, s, 1, refuseWith(reason)).deliver(delivery(o, 2)), errDied)
			s.fail = nil
			require.NotContains(t, s.trail, "verdict")
			err := start(t, s, 2, refuseWith(order.Refuse(order.CodeChainID, "another text"))).deliver(delivery(o, 3))
			require.True(t, err == nil || order.AsReason(err) != nil)
			require.Len(t, s.records, 1)
			if effect != "claim" || after {
				require.Equal(t, order.CodeGasLimit, s.records[o.Accept].Code, "what was begun is finished")
				require.Equal(t, reason, s.refusals[o.ID])
			}
		}
	}
}

// The record needs less than the whole wait of the source, and nobody else can have the order yet.
func TestRule09ARefusalOfAFreshOrderNeedsNoClaim(t *testing.T) {
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	for age, want := range map[time.Duration][]string{
		0:       {"refusal", "record", "verdict"},
		soleFor: {"claim", "refusal", "record", "verdict"},
	} {
		s := newStore()
		s.advance(age)
		require.Error(t, start(t, s, 1, refuseWith(order.Refuse(order.CodeGasLimit, "too much"))).deliver(delivery(o, 1)))
		require.Equal(t, want, s.trail)
	}
	require.Less(t, soleFor, subjects.WorkerAckWait)
}

// The first worker was cut off for longer than the source waits, and does not know it.
func TestRule09AnOrderThatAnotherWorkerStoredMeanwhileHasNoRecord(t *testing.T) {
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	s := newStore()
	require.NoError(t, start(t, s, 2, anything).deliver(delivery(o, 2)))
	s.advance(testMaxAge)
	require.NoError(t, start(t, s, 1, anything).deliver(delivery(o, 1)))
	require.Len(t, s.ok, 1)
	require.Empty(t, s.records)
}

func TestRule09AWorkerFinishesTheEndThatAnotherBegan(t *testing.T) {
	o := acceptedBundle(t, sign(t, "a", legacyTx()))
	s := newStore()
	s.marks[o.Accept] = 1
	s.fail = func(effect string, done bool) error {
		if effect == "claim" && done {
			die()
		}
		return nil
	}
	require.ErrorIs(t, start(t, s, 2, anything).deliver(delivery(o, 4)), errDied)
	s.fail, s.trail = nil, nil
	err := start(t, s, 1, anything).deliver(delivery(o, 1)) // since before all that
	require.Equal(t, order.CodePoisoned, order.AsReason(err).Code)
	require.Equal(t, []string{"ok", "claim", "refusal", "record", "verdict"}, s.trail)
	require.Empty(t, s.ok)
	require.Equal(t, ledger.Poisoned, s.records[o.Accept].Outcome)
	require.Equal(t, order.CodePoisoned, s.refusals[o.ID].Code)
}
