package eltest

import (
	"github.com/ethereum/go-ethereum/common"

	"millrace/internal/engineapi"
)

// What geth v1.17.8 keeps to.
const (
	maxLayers  = 129 // payloads above the head that are executed
	maxHeaders = 96  // headers without a parent that are remembered
	maxRewind  = 32  // how far a forkchoice takes the head back
)

// Block is a block as far as the fake looks into it.
type Block struct {
	Hash, Parent common.Hash
	Number       uint64
	Timestamp    uint64
}

// Kill says what being killed costs.
type Kill uint8

// What a kill costs.
const (
	KillKeeps  Kill = iota + 1 // nothing: geth with the hash scheme and archive mode
	KillLoses                  // every block: geth with the path scheme, at its best
	KillWrecks                 // as KillLoses, but blocks that were known stay known without state: VALID, never applied
	// KillBares keeps the head, but of the blocks above it nothing is left but that they are known: a
	// payload is VALID, its child SYNCING, and a forkchoice to it executes it after all. So does geth with
	// the hash scheme when it is killed while it is caught up.
	KillBares
)

// chain is the state of an execution client. It is guarded by the fake's lock.
type chain struct {
	genesis         Block
	blocks          map[common.Hash]Block // executed
	wrecked         map[common.Hash]Block // known without state
	bare            map[common.Hash]Block // known without state, until a forkchoice
	headers         []common.Hash         // without parent, oldest first
	bad             map[common.Hash]common.Hash
	marked          map[common.Hash]bool // blocks that are bad when executed
	head            Block
	safe, finalized common.Hash
	snap            bool
}

func newChain(genesis Block) chain {
	c := chain{genesis: genesis, marked: map[common.Hash]bool{}}
	c.reset()
	return c
}

// reset forgets all but the genesis block.
func (c *chain) reset() {
	c.blocks = map[common.Hash]Block{c.genesis.Hash: c.genesis}
	c.wrecked = map[common.Hash]Block{}
	c.bare = map[common.Hash]Block{}
	c.bad = map[common.Hash]common.Hash{}
	c.headers = nil
	c.head, c.safe, c.finalized = c.genesis, common.Hash{}, common.Hash{}
}

// restart is a new process over what the last one left.
func (c *chain) restart() {
	c.bad = map[common.Hash]common.Hash{}
	c.headers = nil
}

// kill is the end of a process that could not write down its state.
func (c *chain) kill(cost Kill) {
	switch cost {
	case KillKeeps:
		return
	case KillBares:
		for h, b := range c.blocks {
			if b.Number > c.head.Number {
				c.bare[h] = b
				delete(c.blocks, h)
			}
		}
		return
	default:
	}
	known := c.blocks
	c.reset()
	if cost == KillWrecks {
		delete(known, c.genesis.Hash)
		c.wrecked = known
	}
}

// verdict is the answer to a payload or a head.
type verdict struct {
	status engineapi.Status
	valid  *common.Hash
	text   string
}

func valid(h common.Hash) verdict { return verdict{status: engineapi.StatusValid, valid: &h} }

func syncing() verdict { return verdict{status: engineapi.StatusSyncing} }

func invalid(lastValid common.Hash, text string) verdict {
	return verdict{status: engineapi.StatusInvalid, valid: &lastValid, text: text}
}

// newPayload executes a block if it can.
func (c *chain) newPayload(b Block) verdict {
	if lastValid, ok := c.bad[b.Hash]; ok {
		return invalid(lastValid, "links to previously rejected block")
	}
	if lastValid, ok := c.bad[b.Parent]; ok {
		c.bad[b.Hash] = lastValid
		return invalid(lastValid, "links to previously rejected block")
	}
	if _, ok := c.blocks[b.Hash]; ok {
		return valid(b.Hash)
	}
	if _, ok := c.wrecked[b.Hash]; ok {
		return valid(b.Hash)
	}
	if _, ok := c.bare[b.Hash]; ok {
		return valid(b.Hash)
	}
	parent, ok := c.blocks[b.Parent]
	switch {
	case !ok, b.Number > c.head.Number+maxLayers, c.snap && b.Number > c.genesis.Number+1:
		c.remember(b.Hash)
		return syncing()
	case c.marked[b.Hash]:
		c.bad[b.Hash] = b.Parent
		return invalid(b.Parent, "invalid merkle root")
	case b.Number != parent.Number+1:
		return invalid(b.Parent, "invalid block number")
	}
	c.blocks[b.Hash] = b
	return valid(b.Hash)
}

// remember keeps a header without a parent, the oldest goes when there are too many.
func (c *chain) remember(h common.Hash) {
	c.headers = append(c.headers, h)
	if len(c.headers) > maxHeaders {
		c.headers = c.headers[1:]
	}
}

// fault is a JSON-RPC error.
type fault struct {
	code int
	text string
}

// forkchoice moves the head if it can.
func (c *chain) forkchoice(f engineapi.Forkchoice) (verdict, *fault) {
	if lastValid, ok := c.bad[f.Head]; ok {
		return invalid(lastValid, "links to previously rejected block"), nil
	}
	if _, ok := c.wrecked[f.Head]; ok {
		return valid(f.Head), nil
	}
	c.flesh(f.Head)
	to, ok := c.blocks[f.Head]
	if !ok || c.snap && to.Number > c.genesis.Number {
		return syncing(), nil
	}
	if c.canonical(to) && to.Hash != c.head.Hash {
		if final, ok := c.blocks[c.finalized]; ok && to.Number < final.Number {
			return valid(to.Hash), nil
		}
		if c.head.Number-to.Number > maxRewind {
			return verdict{}, &fault{engineapi.CodeTooDeepReorg, "Too deep reorg"}
		}
	}
	c.head = to
	return c.anchors(f)
}

// flesh executes a bare block and those below it, if they lead to one that has its state.
func (c *chain) flesh(h common.Hash) {
	var path []Block
	for {
		b, ok := c.bare[h]
		if !ok {
			break
		}
		path, h = append(path, b), b.Parent
	}
	if _, ok := c.blocks[h]; !ok {
		return
	}
	for _, b := range path {
		c.blocks[b.Hash] = b
		delete(c.bare, b.Hash)
	}
}

// anchors sets the safe and finalized blocks, which must lie under the head, when the head has
// moved already: as geth does.
func (c *chain) anchors(f engineapi.Forkchoice) (verdict, *fault) {
	for _, anchor := range []struct {
		hash common.Hash
		into *common.Hash
		text string
	}{{f.Finalized, &c.finalized, "final block not in canonical chain"}, {f.Safe, &c.safe, "safe block not in canonical chain"}} {
		if anchor.hash == (common.Hash{}) {
			continue
		}
		if b, ok := c.blocks[anchor.hash]; !ok || !c.canonical(b) {
			return verdict{}, &fault{engineapi.CodeInvalidForkchoice, anchor.text}
		}
		*anchor.into = anchor.hash
	}
	return valid(c.head.Hash), nil
}

// canonical says whether b is the head or an ancestor of it.
func (c *chain) canonical(b Block) bool {
	at, ok := c.ancestor(b.Number)
	return ok && at.Hash == b.Hash
}

// ancestor is the canonical block of a number.
func (c *chain) ancestor(number uint64) (Block, bool) {
	b := c.head
	for b.Number > number {
		var ok bool
		if b, ok = c.blocks[b.Parent]; !ok {
			return Block{}, false
		}
	}
	return b, b.Number == number
}
