package feed

import (
	"slices"

	"github.com/ethereum/go-ethereum/common"
)

// keepHeaders is how many canonical headers are kept: a reorganisation can't be deeper.
const keepHeaders = 256

// step is one change of the chain.
type step struct {
	sequence uint64
	dropped  []*header // newest first
	added    []*header // oldest first
}

// chain is the end of the canonical chain as clients have seen it. It holds at most keepHeaders headers, the
// oldest are dropped first. Its owner locks.
type chain struct {
	headers  []*header // each the parent of the next
	sequence uint64    // of the last step
}

func (c *chain) head() *header {
	if len(c.headers) == 0 {
		return nil
	}
	return c.headers[len(c.headers)-1]
}

// index is where the header is; -1: it is not canonical, or too old.
func (c *chain) index(number uint64, hash common.Hash) int {
	if len(c.headers) == 0 || number < c.headers[0].number {
		return -1
	}
	i := number - c.headers[0].number
	if i >= uint64(len(c.headers)) || c.headers[i].hash != hash {
		return -1
	}
	return int(i) //nolint:gosec // below keepHeaders
}

func (c *chain) has(h *header) bool { return c.index(h.number, h.hash) >= 0 }

// joins says whether h follows a canonical header.
func (c *chain) joins(h *header) bool { return h.number > 0 && c.index(h.number-1, h.parent) >= 0 }

// below says whether h is too old to join anything.
func (c *chain) below(h *header) bool { return len(c.headers) == 0 || h.number <= c.headers[0].number }

// apply puts a branch in the place of what followed its parent; its first header joins.
func (c *chain) apply(branch []*header) step {
	at := c.index(branch[0].number-1, branch[0].parent) + 1
	c.sequence++
	s := step{sequence: c.sequence, dropped: slices.Clone(c.headers[at:]), added: branch}
	slices.Reverse(s.dropped)
	c.headers = append(c.headers[:at], branch...)
	if over := len(c.headers) - keepHeaders; over > 0 {
		c.headers = slices.Clone(c.headers[over:])
	}
	return s
}

// reset begins anew with h.
func (c *chain) reset(h *header) { c.headers = append(c.headers[:0:0], h) }
