package compare

import (
	"github.com/ethereum/go-ethereum/common"
)

// maxRoots bounds what is remembered of bad blocks; the oldest leave first, and a block below a
// forgotten one is a root of its own.
const maxRoots = 4096

// Roots attributes a client's refusals to the first bad block. It is not safe for concurrent use.
type Roots struct {
	root     map[common.Hash]common.Hash // of bad blocks
	below    map[common.Hash]uint64      // descendants by root
	reported map[report]struct{}
	order    []common.Hash
	reports  []report
}

type report struct {
	class Class
	root  common.Hash
}

// NewRoots knows of no bad block.
func NewRoots() *Roots {
	return &Roots{
		root: map[common.Hash]common.Hash{}, below: map[common.Hash]uint64{}, reported: map[report]struct{}{},
	}
}

// Bad notes a bad block and is the first bad one among its ancestors, itself if none is.
func (r *Roots) Bad(block, parent common.Hash) (root common.Hash) {
	if root, there := r.root[block]; there {
		return root
	}
	root, ok := r.root[parent]
	if !ok {
		root = block
	} else {
		r.below[root]++
	}
	r.order = append(r.order, block)
	r.root[block] = root
	if len(r.order) > maxRoots {
		delete(r.root, r.order[0])
		delete(r.below, r.order[0])
		r.order = r.order[1:]
	}
	return root
}

// Of is the root of a bad block; ok is false for a block that is not known to be bad.
func (r *Roots) Of(block common.Hash) (root common.Hash, ok bool) {
	root, ok = r.root[block]
	return root, ok
}

// Descendants is how many bad blocks were built on the root.
func (r *Roots) Descendants(root common.Hash) uint64 { return r.below[root] }

// First says whether the class is reported for the root for the first time.
func (r *Roots) First(class Class, root common.Hash) bool {
	key := report{class, root}
	if _, there := r.reported[key]; there {
		return false
	}
	r.reported[key] = struct{}{}
	r.reports = append(r.reports, key)
	if len(r.reports) > maxRoots {
		delete(r.reported, r.reports[0])
		r.reports = r.reports[1:]
	}
	return true
}
