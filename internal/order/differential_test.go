package order

import (
	"encoding/json"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/flashbots/go-utils/rpctypes"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// What v1 would read of a bundle that we take is what we read.
func TestDecodeAgreesWithGoUtilsOnAcceptedBundles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := generateBundle(t)
		text := g.json(t)
		var theirs rpctypes.EthSendBundleArgs
		if json.Unmarshal([]byte(text), &theirs) != nil {
			return // v1 is stricter about prefixes and blocks
		}
		s, err := Decode(MethodSendBundle, []byte("["+text+"]"), Limits{})
		require.NoError(t, err, text)
		require.Len(t, s.Txs, len(theirs.Txs))
		for i := range theirs.Txs {
			require.Equal(t, []byte(theirs.Txs[i]), s.Txs[i])
		}
		if theirs.BlockNumber != nil {
			require.Equal(t, uint64(*theirs.BlockNumber), s.TargetBlock)
		}
		if theirs.MaxTimestamp != nil {
			require.Equal(t, *theirs.MaxTimestamp, s.MaxTimestamp)
		}
		if theirs.ReplacementNonce != nil {
			require.Equal(t, *theirs.ReplacementNonce, *s.Nonce)
		}
		require.Len(t, s.bundle.reverting, 32*len(theirs.RevertingTxHashes))
		for i, h := range theirs.RevertingTxHashes {
			require.Equal(t, h[:], s.bundle.reverting[32*i:32*i+32])
		}
	})
}

// asV1 is the bundle as v1 reads and forwards it.
func (g *generatedBundle) asV1() *rpctypes.EthSendBundleArgs {
	args := &rpctypes.EthSendBundleArgs{MinTimestamp: g.minTimestamp, MaxTimestamp: g.maxTimestamp, RefundPercent: g.percent}
	for _, tx := range g.txs {
		args.Txs = append(args.Txs, tx)
	}
	for _, h := range g.reverting {
		args.RevertingTxHashes = append(args.RevertingTxHashes, common.Hash(h))
	}
	for _, h := range g.dropping {
		args.DroppingTxHashes = append(args.DroppingTxHashes, common.Hash(h))
	}
	if g.block != nil {
		args.BlockNumber = (*hexutil.Uint64)(g.block)
	}
	if g.uuid != "" {
		args.ReplacementUUID, args.ReplacementNonce = &g.uuid, &g.nonce
	}
	if g.recipient != nil {
		args.RefundRecipient = (*common.Address)(g.recipient)
	}
	return args
}

// Bundles that v1's unique key tells apart have different keys here, and forwarding them through v1,
// which sorts lists, changes no key.
func TestRule10KeyIsAsFineAsV1sUniqueKey(t *testing.T) {
	key := func(t *rapid.T, args *rpctypes.EthSendBundleArgs) ID {
		text, err := json.Marshal(args)
		require.NoError(t, err)
		s, err := Decode(MethodSendBundle, append(append([]byte{'['}, text...), ']'), Limits{})
		require.NoError(t, err)
		nonce := uint64(0)
		if s.Nonce != nil {
			nonce = *s.Nonce
		}
		_, k := s.Identify(testSigner, nonce, s.Nonce == nil)
		return k
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := generateBundle(t), generateBundle(t)
		b.txs, b.block = a.txs, a.block // most differences are elsewhere
		if rapid.Bool().Draw(t, "same lists") {
			b.reverting, b.dropping = a.reverting, a.dropping
		}
		if rapid.Bool().Draw(t, "same replacement") {
			b.uuid, b.nonce = a.uuid, a.nonce
		}
		if rapid.Bool().Draw(t, "same refund") {
			b.percent, b.recipient = a.percent, a.recipient
		}
		v1A, v1B := a.asV1(), b.asV1()
		keyA, keyB := key(t, v1A), key(t, v1B)
		different := v1A.UniqueKey() != v1B.UniqueKey() // sorts the lists in place
		require.Equal(t, keyA, key(t, v1A))
		require.Equal(t, keyB, key(t, v1B))
		if different && !zeroTimestamp(&a) && !zeroTimestamp(&b) {
			require.NotEqual(t, keyA, keyB)
		}
	})
}

// zeroTimestamp: what v1 keys apart from none, although its own sender proxy and every builder read
// it as none.
func zeroTimestamp(g *generatedBundle) bool {
	return g.minTimestamp != nil && *g.minTimestamp == 0 || g.maxTimestamp != nil && *g.maxTimestamp == 0
}
