package signers

import (
	"crypto/sha256"
	"math"
	"time"

	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/params"

	"millrace/internal/order"
)

// key names the bytes of one transaction under one fork.
type key [sha256.Size]byte

// blobBundled marks the key of a blob transaction inside a bundle, where the rules differ from
// those for one that stands alone (it must bring its sidecar). All other types share one key.
const blobBundled = 1

// keyOf hashes in hardware and mixes fork and form into a byte each. Two texts could share a key
// only if their SHA-256 sums agreed in the 30 bytes between.
func keyOf(raw []byte, kind order.Kind, fork byte) key {
	k := key(sha256.Sum256(raw))
	k[0] ^= fork
	if len(raw) > 0 && raw[0] == types.BlobTxType && kind != order.KindTransaction {
		k[len(k)-1] ^= blobBundled
	}
	return k
}

// forkTable tells the forks of one chain apart; nil: a chain without a schedule, always at the
// newest fork (the reading of order.NewRules).
type forkTable struct {
	schedule *params.ChainConfig
}

func forksOf(chainID uint64) forkTable {
	for _, c := range [...]*params.ChainConfig{params.MainnetChainConfig, params.SepoliaChainConfig, params.HoodiChainConfig} {
		if c.ChainID.IsUint64() && c.ChainID.Uint64() == chainID {
			return forkTable{schedule: c}
		}
	}
	return forkTable{}
}

// at returns a byte that differs between any two forks of the chain.
func (f forkTable) at(now time.Time) byte {
	if f.schedule == nil {
		return math.MaxUint8
	}
	return byte(f.schedule.LatestFork(uint64(now.Unix()))) //nolint:gosec // forks are counted from zero, times are after 1970
}
