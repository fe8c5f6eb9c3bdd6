package rpcapi

// BlockKind says how a call names the block that it reads.
type BlockKind uint8

// Kinds of naming a block; the zero kind names none.
const (
	BlockNumber BlockKind = iota + 1
	BlockHash
	BlockEarliest
	BlockLatest
	BlockPending
	BlockSafe
	BlockFinalized
)

// Block is the block that a call reads; of a range, its last one.
type Block struct {
	Kind   BlockKind
	Number uint64   // with BlockNumber
	Hash   [32]byte // with BlockHash
}

// Head is the chain as the nodes tell it: the canonical head, and what can't change any more.
type Head struct {
	Number    uint64
	Hash      [32]byte
	Finalized uint64 // 0: not known
}
