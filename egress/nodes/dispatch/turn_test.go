package dispatch

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"millrace/internal/rpcapi"
)

// letters are the classes as the contract writes its sequences.
var letters = perClass[string]{0: "-", rpcapi.FastTrack: "F", rpcapi.High: "H", rpcapi.Low: "L"}

// sequence takes turns until nothing is left.
func sequence(t *turn, fast, high, low int) string {
	left := perClass[int]{rpcapi.FastTrack: fast, rpcapi.High: high, rpcapi.Low: low}
	var b strings.Builder
	for {
		var has perClass[bool]
		for c, n := range left {
			has[c] = n > 0
		}
		c := t.next(has)
		if c == 0 {
			return b.String()
		}
		left[c]--
		b.WriteString(letters[c])
	}
}

func TestTheServingOrderIsPrioLoadBalancers(t *testing.T) {
	for _, c := range []struct {
		name            string
		turn            turn
		fast, high, low int
		want            string
	}{
		{"N=1", turn{fastPerHigh: 1}, 5, 11, 1, "FHFHFHFHFHHHHHHHL"},
		{"N=2", turn{fastPerHigh: 2}, 5, 11, 1, "FFHFFHFHHHHHHHHHL"},
		{"drain first", turn{fastPerHigh: 2, drainFast: true}, 5, 11, 1, "FFFFFHHHHHHHHHHHL"},
		{"N=0", turn{}, 5, 4, 3, "HHHHFFFFFLLL"},
		{"drain first with N=0", turn{drainFast: true}, 2, 2, 2, "FFHHLL"},
		{"no high call takes the turn", turn{fastPerHigh: 2}, 7, 0, 1, "FFFFFFFL"},
		{"low every 3", turn{fastPerHigh: 2, lowEvery: 3}, 5, 4, 4, "FFHLFFHLFHHLL"},
		{"low every 1", turn{fastPerHigh: 2, lowEvery: 1}, 3, 2, 3, "FLFLHLFH"},
		{"low every 2, drain first", turn{lowEvery: 2, drainFast: true}, 4, 2, 2, "FFLFFLHH"},
	} {
		require.Equal(t, c.want, sequence(&c.turn, c.fast, c.high, c.low), c.name)
	}
}

func TestATurnIsUsedUpEvenWhenNoHighCallIsThere(t *testing.T) {
	s := turn{fastPerHigh: 2}
	require.Equal(t, "FFF", sequence(&s, 3, 0, 0), "the third turn was the high one's")
	require.Equal(t, "FFHFFH", sequence(&s, 4, 2, 0), "so it begins anew")
	require.Equal(t, "FFH", sequence(&s, 2, 1, 0))
	require.Equal(t, "FFL", sequence(&s, 2, 0, 1), "the low one was served with no fast-track call left")
	require.Equal(t, "FFH", sequence(&s, 2, 1, 0))
}

// pops is the pop of prio-load-balancer's queue as the contract tells it, without LowEvery.
type pops struct {
	n, counter int
	drain      bool
}

func (p *pops) pop(fast, high, low bool) rpcapi.Class {
	fastFirst := fast
	switch {
	case p.drain:
	case !fast:
		p.counter = 0
	default:
		p.counter++
		if p.counter > p.n {
			p.counter = 0
			fastFirst = false
		}
	}
	switch {
	case fastFirst:
		return rpcapi.FastTrack
	case high:
		return rpcapi.High
	case fast:
		return rpcapi.FastTrack
	case low:
		return rpcapi.Low
	}
	return 0
}

func TestTurnsAreThoseOfPrioLoadBalancerWhateverComesAndGoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, drain := rapid.IntRange(0, 4).Draw(t, "n"), rapid.Bool().Draw(t, "drain")
		s, p := turn{fastPerHigh: n, drainFast: drain}, pops{n: n, drain: drain}
		for range rapid.IntRange(1, 60).Draw(t, "turns") {
			has := perClass[bool]{}
			for c := rpcapi.FastTrack; c <= rpcapi.Low; c++ {
				has[c] = rapid.Bool().Draw(t, c.String())
			}
			if has == (perClass[bool]{}) {
				continue // its pop blocks, without a turn
			}
			require.Equal(t, p.pop(has[rpcapi.FastTrack], has[rpcapi.High], has[rpcapi.Low]), s.next(has))
		}
	})
}

func TestALowCallWaitsForLowEveryOthersAtMost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := turn{fastPerHigh: rapid.IntRange(0, 4).Draw(t, "n"), lowEvery: rapid.IntRange(1, 5).Draw(t, "every")}
		others := 0
		for range rapid.IntRange(1, 60).Draw(t, "turns") {
			has := perClass[bool]{rpcapi.Low: true}
			has[rpcapi.FastTrack], has[rpcapi.High] = rapid.Bool().Draw(t, "fast"), rapid.Bool().Draw(t, "high")
			if s.next(has) == rpcapi.Low {
				if has[rpcapi.FastTrack] || has[rpcapi.High] {
					require.Equal(t, s.lowEvery, others)
				}
				others = 0
				continue
			}
			others++
			require.LessOrEqual(t, others, s.lowEvery)
		}
	})
}
