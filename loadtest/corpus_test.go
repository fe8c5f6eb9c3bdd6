package loadtest

import (
	"encoding/hex"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/stretchr/testify/require"

	"millrace/internal/order"
)

func newTestCorpus(tb testing.TB, cfg CorpusConfig) *Corpus {
	tb.Helper()
	c, err := NewCorpus(cfg)
	require.NoError(tb, err)
	return c
}

func allShapes() Mix {
	var m Mix
	for s := ShapeBundle; s <= ShapePrivateRaw; s++ {
		m = append(m, Weight{s, 1})
	}
	return m
}

// rawTxs are the encoded transactions in a body: the only strings of hex longer than a signature.
func rawTxs(body []byte) []string {
	var out []string
	for part := range strings.SplitSeq(string(body), `"`) {
		if strings.HasPrefix(part, "0x") && len(part) >= 132 {
			out = append(out, part)
		}
	}
	return out
}

func decodeTxs(t *testing.T, body []byte) []*types.Transaction {
	t.Helper()
	var txs []*types.Transaction
	for _, h := range rawTxs(body) {
		raw, err := hex.DecodeString(h[2:])
		require.NoError(t, err)
		tx := new(types.Transaction)
		require.NoError(t, tx.UnmarshalBinary(raw))
		txs = append(txs, tx)
	}
	return txs
}

func TestCorpusIsAFunctionOfItsSeed(t *testing.T) {
	a := newTestCorpus(t, CorpusConfig{Seed: 7, Mix: allShapes()})
	b := newTestCorpus(t, CorpusConfig{Seed: 7, Mix: allShapes()})
	other := newTestCorpus(t, CorpusConfig{Seed: 8, Mix: allShapes()})
	for n := uint64(60); n > 0; n-- { // backwards: no order depends on one made before
		x, err := a.Order(n)
		require.NoError(t, err)
		y, err := b.Order(60 - n + 1)
		require.NoError(t, err)
		z, err := b.Order(n)
		require.NoError(t, err)
		require.Equal(t, x, z)
		if n != 60-n+1 {
			require.NotEqual(t, x.Body, y.Body)
		}
		o, err := other.Order(n)
		require.NoError(t, err)
		require.NotEqual(t, x.Body, o.Body)
	}
}

func TestEveryOrderIsSignedAndTaggedAndItsTransactionsRecover(t *testing.T) {
	c := newTestCorpus(t, CorpusConfig{Seed: 1, Flow: 3, Mix: allShapes(), HeavyTxs: 5})
	seen := map[Shape]int{}
	for n := range uint64(300) {
		o, err := c.Order(n)
		require.NoError(t, err)
		seen[o.Shape]++
		require.True(t, json.Valid(o.Body))
		require.Equal(t, o.Signer, recoverHeader(t, o.Header, o.Body))
		tag, ok := FindTag(o.Body)
		require.True(t, ok, o.Shape)
		require.Equal(t, Tag{Run: 1, Flow: 3, Seq: n}, tag)
		txs := decodeTxs(t, o.Body)
		require.Len(t, txs, o.Txs)
		for _, tx := range txs {
			_, err := types.Sender(types.LatestSignerForChainID(tx.ChainId()), tx)
			require.NoError(t, err)
			if o.Shape == ShapeInvalid {
				require.NotEqual(t, int64(1), tx.ChainId().Int64())
			}
		}
		if o.Shape == ShapeReplacement || o.Shape == ShapeCancel {
			require.False(t, o.UUID.IsZero())
			require.Contains(t, string(o.Body), o.UUID.String())
			require.Equal(t, n+1, o.Nonce)
		}
		if o.Hash != (common.Hash{}) {
			require.Equal(t, txs[0].Hash(), o.Hash)
		}
	}
	require.Len(t, seen, len(allShapes()))
}

// The domain's own decoder and rules agree with the generator about what is valid.
func TestTheDomainAcceptsWhatIsMeantToBeValid(t *testing.T) {
	rules, err := order.NewRules(1)
	require.NoError(t, err)
	c := newTestCorpus(t, CorpusConfig{Seed: 2, Mix: allShapes(), HeavyTxs: 100})
	now := time.Now()
	for n := range uint64(120) {
		o, err := c.Order(n)
		require.NoError(t, err)
		var req struct {
			Method string
			Params json.RawMessage
		}
		require.NoError(t, json.Unmarshal(o.Body, &req))
		require.Equal(t, o.Method.String(), req.Method)
		sub, err := order.Decode(o.Method, req.Params, order.Limits{MaxTxs: 100})
		if o.Shape == ShapeMalformed {
			require.Error(t, err)
			continue
		}
		require.NoError(t, err, o.Shape)
		require.Len(t, sub.Txs, o.Txs, o.Shape)
		for _, raw := range sub.Txs {
			_, err := rules.Check(raw, sub.Kind, now)
			if o.Shape == ShapeInvalid {
				require.Error(t, err)
			} else {
				require.NoError(t, err, o.Shape)
			}
		}
		signer, err := order.RecoverSigner(o.Header, o.Body)
		require.NoError(t, err)
		require.Equal(t, o.Signer, signer)
		p := order.Classify(0, sub, len(o.Body))
		switch o.Shape {
		case ShapeBlobBundle, ShapeBlobTransaction:
			require.Equal(t, order.PriorityLow, p, o.Shape)
		case ShapeReverting, ShapeReplacement, ShapeTransaction:
			require.Equal(t, order.PriorityHigh, p, o.Shape)
		}
	}
}

func TestSizesFollowThePublishedDistribution(t *testing.T) {
	c := newTestCorpus(t, CorpusConfig{Seed: 3, Mix: Only(ShapeBundle)})
	var sizes []int
	sum, txs, repeats := 0, 0, 0
	const n = 3000
	for i := range uint64(n) {
		o, err := c.Order(2000 + i)
		require.NoError(t, err)
		sizes = append(sizes, len(o.Body))
		sum += len(o.Body)
		txs += o.Txs
		repeats += o.Repeats
	}
	slices.Sort(sizes)
	t.Logf("p50 %d p90 %d p99 %d mean %d, %.1f transactions each, %.0f %% repeated", sizes[n/2], sizes[n*9/10], sizes[n*99/100], sum/n, float64(txs)/n, 100*float64(repeats)/float64(txs))
	require.InEpsilon(t, 2966, sizes[n/2], 0.1)
	require.InEpsilon(t, 19376, sizes[n*9/10], 0.1)
	require.InEpsilon(t, 40390, sizes[n*99/100], 0.1)
	require.InEpsilon(t, 6895, sum/n, 0.1)
	require.InDelta(t, 0.7, float64(repeats)/float64(txs), 0.02)
}

// The default mix as it is sent: every kind of order in its share, every type of transaction, and a
// repeat is what an earlier order of the window really carried.
func TestDefaultMixIsWhatABuilderNetworkSees(t *testing.T) {
	c := newTestCorpus(t, CorpusConfig{Seed: 5})
	const n = 2500
	shapes, methods, kinds := map[Shape]int{}, map[order.Method]int{}, map[uint8]int{}
	carried := map[uint64]map[common.Hash]bool{}
	txs, repeats := 0, 0
	for i := range uint64(n) {
		o, err := c.Order(i)
		require.NoError(t, err)
		shapes[o.Shape]++
		methods[o.Method]++
		if o.Shape != ShapeBundle && o.Shape != ShapeReplacement && o.Shape != ShapeBlobBundle && i%4 != 0 {
			continue
		}
		hashes := map[common.Hash]bool{}
		for _, tx := range decodeTxs(t, o.Body) {
			kinds[tx.Type()]++
			hashes[tx.Hash()] = true
		}
		carried[i] = hashes
		require.Len(t, o.Sources, o.Repeats)
		for _, source := range o.Sources {
			require.Less(t, source, i)
			require.LessOrEqual(t, i-source, uint64(2000))
			shared := 0
			for h := range carried[source] {
				if hashes[h] {
					shared++
				}
			}
			require.Positive(t, shared, "order %d repeats nothing of order %d", i, source)
		}
		if o.Shape == ShapeBundle {
			txs += o.Txs
			repeats += o.Repeats
		}
	}
	for _, w := range DefaultMix() {
		require.InDelta(t, float64(w.Weight)/1000, float64(shapes[w.Shape])/n, 0.02, w.Shape)
	}
	require.Len(t, methods, 4)
	require.Len(t, kinds, 5, "legacy, access list, dynamic fee, blob, set code: %v", kinds)
	require.InDelta(t, 0.7, float64(repeats)/float64(txs), 0.03)
}

// A corpus of a fixed size has it from its first order on, whatever the size.
func TestBundlesOfAFixedSize(t *testing.T) {
	for _, size := range []int{1000, 3000, 10_000, 1_000_000} {
		c := newTestCorpus(t, CorpusConfig{Seed: 6, Mix: Only(ShapeBundle), Size: size})
		sum, longest := 0, 0
		const n = 12
		for i := range uint64(n) {
			o, err := c.Order(i)
			require.NoError(t, err)
			sum += len(o.Body)
			require.LessOrEqual(t, o.Txs, 100)
			for _, raw := range rawTxs(o.Body) {
				longest = max(longest, len(raw)/2)
			}
		}
		require.InEpsilon(t, size, sum/n, 0.3, size)
		require.LessOrEqual(t, longest, maxRawTx+1024, "no pool takes a longer one")
	}
}

func TestNoncesOfAKeyRise(t *testing.T) {
	c := newTestCorpus(t, CorpusConfig{Seed: 4, Mix: Mix{{ShapeReplacement, 3}, {ShapeCancel, 1}}, Keys: 3})
	type key struct {
		signer common.Address
		uuid   order.UUID
	}
	last := map[key]uint64{}
	for n := range uint64(100) {
		o, err := c.Order(n)
		require.NoError(t, err)
		k := key{o.Signer, o.UUID}
		require.Greater(t, o.Nonce, last[k])
		last[k] = o.Nonce
	}
	require.Len(t, last, 3)
}

func TestCorpusRefusesNonsense(t *testing.T) {
	for name, cfg := range map[string]CorpusConfig{
		"an empty mix":      {Mix: Mix{}},
		"a negative weight": {Mix: Mix{{ShapeBundle, -1}}},
		"an unknown shape":  {Mix: Only(99)},
		"all repeated":      {Repeats: 1},
		"no signer":         {Signers: -1},
	} {
		_, err := NewCorpus(cfg)
		require.ErrorIs(t, err, ErrConfig, name)
	}
	_, err := ParseShape("sandwich")
	require.ErrorIs(t, err, ErrConfig)
	s, err := ParseShape("blob_bundle")
	require.NoError(t, err)
	require.Equal(t, ShapeBlobBundle, s)
	require.Equal(t, "unknown_0", Shape(0).String())
}

func TestEmptySidecarIsWellFormed(t *testing.T) {
	for version, proofs := range map[byte]int{types.BlobSidecarVersion0: 1, types.BlobSidecarVersion1: 128} {
		s := emptySidecar(version)
		require.Len(t, s.Proofs, proofs)
		require.NoError(t, s.ValidateBlobCommitmentHashes(s.BlobHashes()))
	}
}

func TestSignerSignsByHand(t *testing.T) {
	s, err := NewSigner(9)
	require.NoError(t, err)
	header, err := s.Sign([]byte("Hello"))
	require.NoError(t, err)
	require.Equal(t, s.Address(), recoverHeader(t, header, []byte("Hello")))
}

func recoverHeader(t *testing.T, header string, body []byte) common.Address {
	t.Helper()
	address, hexSig, ok := strings.Cut(header, ":")
	require.True(t, ok)
	sig := common.FromHex(hexSig)
	require.Len(t, sig, 65)
	require.True(t, crypto.ValidateSignatureValues(sig[64]-27, new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:64]), true))
	sig[64] -= 27
	digest := crypto.Keccak256([]byte("\x19Ethereum Signed Message:\n66" + crypto.Keccak256Hash(body).Hex()))
	pub, err := crypto.SigToPub(digest, sig)
	require.NoError(t, err)
	require.Equal(t, common.HexToAddress(address), crypto.PubkeyToAddress(*pub))
	return crypto.PubkeyToAddress(*pub)
}
