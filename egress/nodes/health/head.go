package health

import (
	"cmp"
	"slices"

	"millrace/internal/rpcapi"
)

// agreement is how far apart two heads may be and still tell of the same one, where Config.MaxLag does not say.
const agreement = 16

// claim is what one node says of the chain.
type claim struct {
	number    uint64
	hash      [32]byte
	finalized uint64 // 0: not told
}

// agreed is the head that the claims tell together; ok is false without claims. Of equally many hashes the one of
// before stays, so that a split does not flap.
func agreed(claims []claim, within uint64, before rpcapi.Head) (h rpcapi.Head, ok bool) {
	if len(claims) == 0 {
		return rpcapi.Head{}, false
	}
	// Stable: of nodes that say different things the first configured one counts.
	sorted := slices.Clone(claims)
	slices.SortStableFunc(sorted, func(a, b claim) int { return cmp.Compare(b.number, a.number) })
	h.Number = sorted[0].number
	if len(sorted) > 2 {
		// Nobody near anybody: the middle one is reached by most.
		h.Number = sorted[len(sorted)/2].number
		for i := range len(sorted) - 1 {
			if sorted[i].number-sorted[i+1].number <= within {
				h.Number = sorted[i].number
				break
			}
		}
	}
	votes := make(map[[32]byte]int, 1)
	for _, c := range sorted {
		if c.number == h.Number {
			votes[c.hash]++
		}
		if c.finalized > 0 && (h.Finalized == 0 || c.finalized < h.Finalized) {
			h.Finalized = c.finalized
		}
	}
	most := 0
	for _, c := range sorted {
		if v := votes[c.hash]; c.number == h.Number && (v > most || (v == most && c.hash == before.Hash)) {
			h.Hash, most = c.hash, v
		}
	}
	return h, true
}

// tip is a head and who waits for the next one.
type tip struct {
	head    rpcapi.Head
	changed chan struct{}
}

// Head is the chain as the nodes in use tell it; zero until one did. While none is in use it stays what it was, or is
// told by those that answer.
func (m *Monitor) Head() rpcapi.Head { return m.tip.Load().head }

// Changed is closed when Head changes. Call it before Head: then no change is missed.
func (m *Monitor) Changed() <-chan struct{} { return m.tip.Load().changed }

func (m *Monitor) turn(h rpcapi.Head) {
	before := m.tip.Load()
	if before.head == h {
		return
	}
	m.tip.Store(&tip{head: h, changed: make(chan struct{})})
	close(before.changed)
}
