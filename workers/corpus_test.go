package workers

import (
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/crypto/kzg4844"
	"github.com/holiman/uint256"
	"github.com/stretchr/testify/require"

	"millrace/internal/jsonrpc"
	"millrace/internal/order"
)

const (
	testChain  = 1
	testMaxAge = 36 * time.Second
)

var (
	// testNow is after Osaka on mainnet.
	testNow  = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	searcher = common.Address{0x5e, 0xa2}
	someone  = common.Address{0x01}
	testUUID = "5f3b8c1e-7a94-4a6c-9f0d-2b1c3d4e5f60"
)

// sign signs with the key of the given seed and returns the network encoding.
func sign(tb testing.TB, seed string, data types.TxData) []byte {
	tb.Helper()
	k, err := crypto.ToECDSA(crypto.Keccak256([]byte(seed)))
	require.NoError(tb, err)
	tx, err := types.SignNewTx(k, types.LatestSignerForChainID(big.NewInt(testChain)), data)
	require.NoError(tb, err)
	raw, err := tx.MarshalBinary()
	require.NoError(tb, err)
	return raw
}

func legacyTx() *types.LegacyTx {
	return &types.LegacyTx{Nonce: 1, GasPrice: big.NewInt(1e9), Gas: 21000, To: &someone, Value: big.NewInt(1)}
}

func accessListTx() *types.AccessListTx {
	return &types.AccessListTx{
		ChainID: big.NewInt(testChain), Nonce: 2, GasPrice: big.NewInt(1e9), Gas: 30000, To: &someone, Value: big.NewInt(1),
		AccessList: types.AccessList{{Address: someone, StorageKeys: []common.Hash{{1}}}},
	}
}

func dynamicTx(nonce uint64) *types.DynamicFeeTx {
	return &types.DynamicFeeTx{
		ChainID: big.NewInt(testChain), Nonce: nonce, GasTipCap: big.NewInt(1), GasFeeCap: big.NewInt(1e9),
		Gas: 21000, To: &someone, Value: big.NewInt(1),
	}
}

func setCodeTx() *types.SetCodeTx {
	return &types.SetCodeTx{
		ChainID: uint256.NewInt(testChain), Nonce: 5, GasTipCap: uint256.NewInt(1), GasFeeCap: uint256.NewInt(1e9),
		Gas: 100_000, To: someone, Value: uint256.NewInt(1),
		AuthList: []types.SetCodeAuthorization{{ChainID: *uint256.NewInt(testChain), Address: someone, R: *uint256.NewInt(1), S: *uint256.NewInt(1)}},
	}
}

// sidecar is made once: its proofs cost about half a second.
var sidecar = sync.OnceValue(func() *types.BlobTxSidecar {
	var blob kzg4844.Blob
	commitment, err := kzg4844.BlobToCommitment(&blob)
	if err != nil {
		panic(err)
	}
	proof, err := kzg4844.ComputeBlobProof(&blob, commitment)
	if err != nil {
		panic(err)
	}
	return types.NewBlobTxSidecar(types.BlobSidecarVersion0, []kzg4844.Blob{blob}, []kzg4844.Commitment{commitment}, []kzg4844.Proof{proof})
})

func blobTx() *types.BlobTx {
	return &types.BlobTx{
		ChainID: uint256.NewInt(testChain), Nonce: 4, GasTipCap: uint256.NewInt(1), GasFeeCap: uint256.NewInt(1e9),
		BlobFeeCap: uint256.NewInt(1), Gas: 21000, To: someone, BlobHashes: sidecar().BlobHashes(), Sidecar: sidecar(),
	}
}

func hexOf(raw []byte) string { return `"0x` + hex.EncodeToString(raw) + `"` }

// bundleBody is an eth_sendBundle request; extra are more members of its object, each with a
// leading comma.
func bundleBody(extra string, txs ...[]byte) string {
	list := make([]string, len(txs))
	for i, raw := range txs {
		list[i] = hexOf(raw)
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle","params":[{"txs":[%s],"blockNumber":"0x1","unknown":{"kept": 1}%s}]}`,
		strings.Join(list, ","), extra)
}

func rawBody(raw []byte) string {
	return `{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":[` + hexOf(raw) + `]}`
}

// accepted returns the order that a door makes of a request: with the identity of its content where
// it has one, as a door of another version might take what this worker refuses.
func accepted(tb testing.TB, m order.Method, body string) *order.Order {
	tb.Helper()
	o := &order.Order{
		Accept: order.NewAcceptID(testNow), ID: order.ID{1}, Key: order.ID{2}, Hash: common.Hash{3},
		Signer: searcher, Method: m, Kind: order.KindBundle, Priority: order.PriorityMedium,
		ReceivedAt: testNow, Deadline: testNow.Add(testMaxAge), Ingress: "door-1", Body: []byte(body),
	}
	calls, _, rpcErr := jsonrpc.Parse(o.Body, 1)
	if rpcErr != nil || len(calls) != 1 || calls[0].Err != nil {
		return o
	}
	sub, err := order.Decode(m, calls[0].Request.Params, order.Limits{})
	if err != nil {
		return o
	}
	o.Kind, o.Replacement = sub.Kind, sub.Replacement
	switch {
	case sub.Nonce != nil:
		o.Nonce = *sub.Nonce
	case !sub.Replacement.IsZero():
		o.Nonce, o.NonceDefaulted = uint64(testNow.UnixMicro()), true
	}
	o.ID, o.Key = sub.Identify(o.Signer, o.Nonce, o.NonceDefaulted)
	o.Hash, err = sub.PublicHash(o.Nonce)
	require.NoError(tb, err)
	return o
}

func acceptedBundle(tb testing.TB, txs ...[]byte) *order.Order {
	tb.Helper()
	return accepted(tb, order.MethodSendBundle, bundleBody("", txs...))
}

// delivery is o as the source hands it out for the n-th time.
func delivery(o *order.Order, n int) order.Delivery {
	return order.Delivery{Order: o, Sequence: 1, StoredAt: o.ReceivedAt, Deliveries: n, Seen: n > 1, Size: len(o.Body)}
}

func realRules(tb testing.TB) *order.Rules {
	tb.Helper()
	r, err := order.NewRules(testChain)
	require.NoError(tb, err)
	return r
}

// readByTheDoor is o as the tap hands it out.
func readByTheDoor(tb testing.TB, o *order.Order) *order.Order {
	tb.Helper()
	calls, _, rpcErr := jsonrpc.Parse(o.Body, 1)
	require.Nil(tb, rpcErr)
	sub, err := order.Decode(o.Method, calls[0].Request.Params, order.Limits{})
	require.NoError(tb, err)
	c := *o
	c.Reading = sub
	return &c
}
