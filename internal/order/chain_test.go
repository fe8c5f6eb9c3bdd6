package order

import (
	"crypto/ecdsa"
	"encoding/hex"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/crypto/kzg4844"
	"github.com/ethereum/go-ethereum/params"
	"github.com/holiman/uint256"
	"github.com/stretchr/testify/require"
)

// testKey is the published key of the go-ethereum book.
const testKeyHex = "fad9c8855b740a0b7ed4c221dbad0f33a83a49cad6b3fe8d5817ac83d38b6a19"

var (
	testTo = common.HexToAddress("0x1000000000000000000000000000000000000001")
	// testNow is in Osaka on mainnet.
	testNow = time.Unix(1790000000, 0)
)

func testKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := crypto.HexToECDSA(testKeyHex)
	require.NoError(tb, err)
	return key
}

func hexOf(b []byte) string { return "0x" + hex.EncodeToString(b) }

func legacy(testing.TB) *types.LegacyTx {
	return &types.LegacyTx{GasPrice: big.NewInt(2e9), Gas: 50_000, To: &testTo, Value: big.NewInt(1), Data: []byte{1, 0, 2}}
}

func dynamicFee(testing.TB) *types.DynamicFeeTx {
	return &types.DynamicFeeTx{ChainID: big.NewInt(1), Nonce: 1, GasTipCap: big.NewInt(1), GasFeeCap: big.NewInt(2e9), Gas: 50_000, To: &testTo, Value: big.NewInt(1), Data: []byte{1, 0, 2}}
}

func setCode(testing.TB) *types.SetCodeTx {
	return &types.SetCodeTx{
		ChainID: uint256.NewInt(1), GasTipCap: uint256.NewInt(1), GasFeeCap: uint256.NewInt(2e9), Gas: 100_000, To: testTo, Value: new(uint256.Int),
		AuthList: []types.SetCodeAuthorization{{ChainID: *uint256.NewInt(1), Address: testTo}},
	}
}

// signedTx signs data for mainnet and returns its network encoding.
func signedTx(tb testing.TB, data types.TxData) []byte {
	tb.Helper()
	tx, err := types.SignNewTx(testKey(tb), types.LatestSigner(params.MainnetChainConfig), data)
	require.NoError(tb, err)
	raw, err := tx.MarshalBinary()
	require.NoError(tb, err)
	return raw
}

type proven struct {
	commitment kzg4844.Commitment
	proof      kzg4844.Proof
	cells      []kzg4844.Proof
}

// proveEmptyBlob computes the proofs of the empty blob once: it takes a second.
var proveEmptyBlob = sync.OnceValues(func() (p proven, err error) {
	blob := new(kzg4844.Blob)
	if p.commitment, err = kzg4844.BlobToCommitment(blob); err != nil {
		return p, err
	}
	if p.proof, err = kzg4844.ComputeBlobProof(blob, p.commitment); err != nil {
		return p, err
	}
	p.cells, err = kzg4844.ComputeCellProofs(blob)
	return p, err
})

func sidecar(tb testing.TB, version byte, blobs int) *types.BlobTxSidecar {
	tb.Helper()
	p, err := proveEmptyBlob()
	require.NoError(tb, err)
	sc := &types.BlobTxSidecar{Version: version}
	for range blobs {
		sc.Blobs = append(sc.Blobs, kzg4844.Blob{})
		sc.Commitments = append(sc.Commitments, p.commitment)
		if version == types.BlobSidecarVersion0 {
			sc.Proofs = append(sc.Proofs, p.proof)
		} else {
			sc.Proofs = append(sc.Proofs, p.cells...)
		}
	}
	return sc
}

func blobData(sc *types.BlobTxSidecar) *types.BlobTx {
	return &types.BlobTx{
		ChainID: uint256.NewInt(1), GasTipCap: uint256.NewInt(1), GasFeeCap: uint256.NewInt(2e9), Gas: 50_000, To: testTo,
		Value: new(uint256.Int), BlobFeeCap: uint256.NewInt(1), BlobHashes: sc.BlobHashes(), Sidecar: sc,
	}
}

// blobTx returns one blob transaction without and with its sidecar.
func blobTx(tb testing.TB, version byte, blobs int) (bare, full []byte) {
	tb.Helper()
	data := blobData(sidecar(tb, version, blobs))
	full = signedTx(tb, data)
	tx := new(types.Transaction)
	require.NoError(tb, tx.UnmarshalBinary(full))
	bare, err := tx.WithoutBlobTxSidecar().MarshalBinary()
	require.NoError(tb, err)
	return bare, full
}
