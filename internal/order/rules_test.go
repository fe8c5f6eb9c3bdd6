package order

import (
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/params"
	"github.com/stretchr/testify/require"
)

func mainnet(tb testing.TB) *Rules {
	tb.Helper()
	r, err := NewRules(1)
	require.NoError(tb, err)
	return r
}

func TestCheckTakesEveryTypeAndRecoversItsSender(t *testing.T) {
	rules, from := mainnet(t), crypto.PubkeyToAddress(testKey(t).PublicKey)
	bare, v0 := blobTx(t, 0, 1)
	_, v1 := blobTx(t, 1, 2)
	accessList := &types.AccessListTx{ChainID: big.NewInt(1), GasPrice: big.NewInt(1), Gas: 50_000, To: &testTo, Value: new(big.Int), AccessList: types.AccessList{{Address: testTo}}}
	for _, tc := range []struct {
		name string
		raw  []byte
		kind Kind
	}{
		{"legacy", signedTx(t, legacy(t)), KindBundle},
		{"access list", signedTx(t, accessList), KindBundle},
		{"dynamic fee", signedTx(t, dynamicFee(t)), KindTransaction},
		{"set code", signedTx(t, setCode(t)), KindShareBundle},
		{"blob without sidecar", bare, KindTransaction},
		{"blob with EIP-4844 sidecar", v0, KindTransaction},
		{"blob with EIP-4844 sidecar in a bundle", v0, KindBundle},
		{"blob with EIP-7594 sidecar", v1, KindBundle},
	} {
		t.Run(tc.name, func(t *testing.T) {
			info, err := rules.Check(tc.raw, tc.kind, testNow)
			require.NoError(t, err)
			require.Equal(t, from, info.From)
			require.Equal(t, TransactionHash(tc.raw), info.Hash)
		})
	}
}

func TestCheckTakesALegacyTransactionWithoutChainID(t *testing.T) {
	tx, err := types.SignNewTx(testKey(t), types.HomesteadSigner{}, legacy(t))
	require.NoError(t, err)
	raw, err := tx.MarshalBinary()
	require.NoError(t, err)
	_, err = mainnet(t).Check(raw, KindBundle, testNow)
	require.NoError(t, err)
}

func edited[T any](data T, edit func(T)) T {
	edit(data)
	return data
}

func TestCheckRefusesWhatConsensusRefuses(t *testing.T) {
	withSidecar := func(version byte, edit func(*types.BlobTxSidecar)) []byte {
		data := blobData(sidecar(t, version, 1))
		edit(data.Sidecar)
		return signedTx(t, data)
	}
	otherChain, err := types.SignNewTx(testKey(t), types.LatestSignerForChainID(big.NewInt(5)), legacy(t))
	require.NoError(t, err)
	otherLegacy, err := otherChain.MarshalBinary()
	require.NoError(t, err)
	otherDynamic, err := types.SignNewTx(testKey(t), types.LatestSignerForChainID(big.NewInt(5)), edited(dynamicFee(t), func(d *types.DynamicFeeTx) { d.ChainID = big.NewInt(5) }))
	require.NoError(t, err)
	otherTyped, err := otherDynamic.MarshalBinary()
	require.NoError(t, err)
	bare, _ := blobTx(t, 0, 1)

	for _, tc := range []struct {
		name string
		raw  []byte
		kind Kind
		code Code
		text string
	}{
		{"nothing", nil, KindBundle, CodeMalformed, "transaction: typed transaction too short"},
		{"no transaction", []byte{0xc0}, KindBundle, CodeMalformed, "transaction: rlp: too few elements for types.LegacyTx"},
		{"unknown type", []byte{5, 0xc0}, KindBundle, CodeUnsupportedType, "transaction type not supported"},
		{"trailing byte", append(signedTx(t, dynamicFee(t)), 0), KindBundle, CodeMalformed, "transaction: rlp: input contains more than one value"},
		{"trailing byte of a legacy one", append(signedTx(t, legacy(t)), 0), KindBundle, CodeMalformed, "transaction: rlp: input contains more than one value"},
		{"trailing byte of a blob one", append(append([]byte(nil), bare...), 0), KindTransaction, CodeMalformed, "transaction: rlp: input contains more than one value"},
		{"init code", signedTx(t, &types.LegacyTx{Gas: 10_000_000, GasPrice: big.NewInt(1), Data: make([]byte, 2*0x6000+1)}), KindBundle, CodeInitCodeSize, "max initcode size exceeded: code size 49153 limit 49152"},
		{"tip above cap", signedTx(t, edited(dynamicFee(t), func(d *types.DynamicFeeTx) { d.GasTipCap = big.NewInt(3e9) })), KindBundle, CodeTipAboveFeeCap, "max priority fee per gas higher than max fee per gas"},
		{"price of more than 256 bits", signedTx(t, edited(legacy(t), func(d *types.LegacyTx) { d.GasPrice = new(big.Int).Lsh(big.NewInt(1), 256) })), KindBundle, CodeMalformed, "max fee per gas higher than 2^256-1"},
		{"value of more than 256 bits", signedTx(t, edited(legacy(t), func(d *types.LegacyTx) { d.Value = new(big.Int).Lsh(big.NewInt(1), 256) })), KindBundle, CodeMalformed, "insufficient funds for gas * price + value"},
		{"last nonce", signedTx(t, edited(legacy(t), func(d *types.LegacyTx) { d.Nonce = math.MaxUint64 })), KindBundle, CodeMalformed, "nonce has max value"},
		{"other chain", otherTyped, KindBundle, CodeChainID, "invalid chain id for signer: have 5 want 1"},
		{"other chain of a legacy one", otherLegacy, KindTransaction, CodeChainID, "invalid chain id for signer: have 5 want 1"},
		{"gas above Osaka's cap", signedTx(t, edited(dynamicFee(t), func(d *types.DynamicFeeTx) { d.Gas = params.MaxTxGas + 1 })), KindBundle, CodeGasLimit, "transaction gas limit too high (cap: 16777216, tx: 16777217)"},
		{"intrinsic gas", signedTx(t, edited(dynamicFee(t), func(d *types.DynamicFeeTx) { d.Gas = 21_035 })), KindBundle, CodeIntrinsicGas, "intrinsic gas too low: gas 21035, minimum needed 21036"},
		{"floor gas", signedTx(t, edited(dynamicFee(t), func(d *types.DynamicFeeTx) { d.Gas = 21_036 })), KindBundle, CodeIntrinsicGas, "insufficient gas for floor data gas cost: gas 21036, minimum needed 21090"},
		{"no authorization", signedTx(t, edited(setCode(t), func(d *types.SetCodeTx) { d.AuthList = nil })), KindBundle, CodeAuthList, "set code tx must have at least one authorization tuple"},
		{"no blob", signedTx(t, edited(blobData(sidecar(t, 0, 1)), func(d *types.BlobTx) { d.BlobHashes, d.Sidecar = nil, nil })), KindTransaction, CodeBlobHashes, "blob transaction missing blob hashes"},
		{"bad blob hash", signedTx(t, edited(blobData(sidecar(t, 0, 1)), func(d *types.BlobTx) { d.BlobHashes[0][0], d.Sidecar = 2, nil })), KindTransaction, CodeBlobHashes, "blob 0 has invalid hash version"},
		{"seven blobs", signedTx(t, edited(blobData(sidecar(t, 0, 7)), func(d *types.BlobTx) { d.Sidecar = nil })), KindTransaction, CodeBlobHashes, "transaction blob limit exceeded: blob count 7, limit 6"},
		{"no sidecar in a bundle", bare, KindBundle, CodeBlobSidecar, "missing sidecar in blob transaction"},
		{"no sidecar in a share bundle", bare, KindShareBundle, CodeBlobSidecar, "missing sidecar in blob transaction"},
		{"commitment of another blob", withSidecar(0, func(sc *types.BlobTxSidecar) { sc.Commitments[0][5] ^= 1 }), KindBundle, CodeBlobSidecar, "blob 0: computed hash"},
		{"blob missing", withSidecar(0, func(sc *types.BlobTxSidecar) { sc.Blobs = nil }), KindBundle, CodeBlobSidecar, "invalid number of 0 blobs compared to 1 blob hashes"},
		{"proof missing", withSidecar(0, func(sc *types.BlobTxSidecar) { sc.Proofs = nil }), KindBundle, CodeBlobSidecar, "Wrong sidecar format: invalid number of 0 blob proofs expected 1"},
		{"cell proof missing", withSidecar(1, func(sc *types.BlobTxSidecar) { sc.Proofs = sc.Proofs[1:] }), KindBundle, CodeBlobSidecar, "Wrong sidecar format: invalid number of 127 blob proofs expected 128"},
		{"bad proof", withSidecar(0, func(sc *types.BlobTxSidecar) { sc.Blobs[0][31] = 1 }), KindBundle, CodeBlobSidecar, "KZG verification error: blob 0: "},
		{"bad cell proof", withSidecar(1, func(sc *types.BlobTxSidecar) { sc.Blobs[0][31] = 1 }), KindTransaction, CodeBlobSidecar, "KZG verification error: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := mainnet(t).Check(tc.raw, tc.kind, testNow)
			reason := AsReason(err)
			require.NotNil(t, reason)
			require.Equal(t, tc.code, reason.Code, reason.Text)
			require.True(t, strings.HasPrefix(reason.Text, tc.text), reason.Text)
		})
	}
}

func TestCheckRefusesAHighS(t *testing.T) {
	tx := types.NewTx(dynamicFee(t))
	signer := types.LatestSigner(params.MainnetChainConfig)
	sig, err := crypto.Sign(signer.Hash(tx).Bytes(), testKey(t))
	require.NoError(t, err)
	s := new(big.Int).Sub(crypto.S256().Params().N, new(big.Int).SetBytes(sig[32:64]))
	s.FillBytes(sig[32:64])
	sig[64] ^= 1
	tx, err = tx.WithSignature(signer, sig)
	require.NoError(t, err)
	raw, err := tx.MarshalBinary()
	require.NoError(t, err)
	_, err = mainnet(t).Check(raw, KindBundle, testNow)
	require.Equal(t, Refuse(CodeBadSender, "invalid sender: invalid transaction v, r, s values"), err)
}

func TestCheckAppliesForksByTime(t *testing.T) {
	big := signedTx(t, edited(dynamicFee(t), func(d *types.DynamicFeeTx) { d.Gas = params.MaxTxGas + 1 }))
	osaka := time.Unix(int64(*params.MainnetChainConfig.OsakaTime), 0)
	_, err := mainnet(t).Check(big, KindBundle, osaka.Add(-time.Second))
	require.NoError(t, err)
	_, err = mainnet(t).Check(big, KindBundle, osaka)
	require.Equal(t, CodeGasLimit, AsReason(err).Code)

	prague := time.Unix(int64(*params.MainnetChainConfig.PragueTime), 0)
	_, err = mainnet(t).Check(signedTx(t, setCode(t)), KindBundle, prague.Add(-time.Second))
	require.Equal(t, CodeUnsupportedType, AsReason(err).Code)
	require.Equal(t, 6, mainnet(t).maxBlobs(uint64(prague.Add(-time.Second).Unix())))
	require.Equal(t, 9, mainnet(t).maxBlobs(uint64(prague.Unix())))
	require.Equal(t, 6, mainnet(t).maxBlobs(uint64(osaka.Unix())))
}

func TestNewRulesKnowsTheChains(t *testing.T) {
	_, err := NewRules(0)
	require.Error(t, err)
	for id, config := range map[uint64]*params.ChainConfig{1: params.MainnetChainConfig, 11155111: params.SepoliaChainConfig, 560048: params.HoodiChainConfig} {
		r, err := NewRules(id)
		require.NoError(t, err)
		require.Same(t, config, r.config)
		require.Equal(t, id, r.ChainID())
	}
	r, err := NewRules(31337)
	require.NoError(t, err)
	tx, err := types.SignNewTx(testKey(t), types.LatestSignerForChainID(big.NewInt(31337)), edited(setCode(t), func(d *types.SetCodeTx) { d.ChainID.SetUint64(31337) }))
	require.NoError(t, err)
	raw, err := tx.MarshalBinary()
	require.NoError(t, err)
	_, err = r.Check(raw, KindBundle, time.Unix(0, 0))
	require.NoError(t, err, "every fork is active from the beginning")
	require.Equal(t, big.NewInt(1), params.MergedTestChainConfig.ChainID, "the template is not touched")
}

func TestTransactionHashEqualsGoEthereums(t *testing.T) {
	bare, v0 := blobTx(t, 0, 1)
	_, v1 := blobTx(t, 1, 1)
	for _, raw := range [][]byte{bare, v0, v1, signedTx(t, legacy(t)), signedTx(t, dynamicFee(t)), signedTx(t, setCode(t))} {
		tx := new(types.Transaction)
		require.NoError(t, tx.UnmarshalBinary(raw))
		require.Equal(t, tx.Hash(), TransactionHash(raw))
	}
	require.NotEqual(t, common.Hash{}, TransactionHash([]byte{3}))
}
