package rpcapi

import "fmt"

// Source says where an answer came from.
type Source uint8

// Sources.
const (
	// SourceHit: from the cache.
	SourceHit Source = iota + 1
	// SourceMiss: from a node, and it may have been kept.
	SourceMiss
	// SourceCoalesced: from a node that an identical call under way had asked.
	SourceCoalesced
	// SourceBypass: from a node, and it was not to be kept.
	SourceBypass
)

// String is the source as it stands in metrics and in X-LB-Cache.
func (s Source) String() string {
	switch s {
	case SourceHit:
		return "hit"
	case SourceMiss:
		return "miss"
	case SourceCoalesced:
		return "coalesced"
	case SourceBypass:
		return "bypass"
	default:
		return fmt.Sprintf("source(%d)", uint8(s))
	}
}
