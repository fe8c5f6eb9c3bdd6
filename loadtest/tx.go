package loadtest

import (
	"encoding/hex"
	"fmt"
	"math/big"
	"math/rand/v2"
	"sync"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto/kzg4844"
	"github.com/holiman/uint256"
)

const (
	// txOverhead is about what a transaction has beside its calldata, encoded, bytes.
	txOverhead = 115
	// gasPerByte covers both the intrinsic price and the calldata floor of a non-zero byte.
	gasPerByte = 40
	gasBase    = 150_000
	gwei       = 1_000_000_000
)

// transaction is an encoded, signed transaction.
type transaction struct {
	hex  string // network encoding, 0x-prefixed
	hash common.Hash
}

// txForge makes transactions that follow from the seed and remembers the recent ones, so that
// repeating one costs no second signature.
type txForge struct {
	seed    uint64
	chainID *big.Int
	senders []key
	signer  types.Signer

	mu sync.Mutex
	// recent holds at most len(recent) transactions, by id modulo its length; a newer one drops
	// the older one, which is then made again when it is asked for.
	recent []cachedTx
}

type cachedTx struct {
	id uint64
	tx transaction
}

func newTxForge(seed, chainID uint64, senders, remember int) (*txForge, error) {
	ks, err := deriveKeys(seed, "sender", senders)
	if err != nil {
		return nil, err
	}
	id := new(big.Int).SetUint64(chainID)
	return &txForge{
		seed: seed, chainID: id, senders: ks, signer: types.LatestSignerForChainID(id),
		recent: make([]cachedTx, remember),
	}, nil
}

// pooled returns transaction id with the given length of calldata, from memory if it is there.
func (f *txForge) pooled(id uint64, calldata int) (transaction, error) {
	slot := &f.recent[id%uint64(len(f.recent))]
	f.mu.Lock()
	c := *slot
	f.mu.Unlock()
	if c.tx.hex != "" && c.id == id {
		return c.tx, nil
	}
	tx, err := f.forge(id, calldata, nil, f.signer)
	if err != nil {
		return transaction{}, err
	}
	f.mu.Lock()
	*slot = cachedTx{id: id, tx: tx}
	f.mu.Unlock()
	return tx, nil
}

// forge makes transaction id: its type, sender and calldata follow from the id; prefix starts the
// calldata.
func (f *txForge) forge(id uint64, calldata int, prefix []byte, signer types.Signer) (transaction, error) {
	rng := rand.New(rand.NewPCG(f.seed^0x7478, id)) //nolint:gosec // reproducible on purpose
	data := make([]byte, max(calldata, len(prefix)))
	fill(rng, data)
	copy(data, prefix)
	to := common.BytesToAddress(data[max(0, len(data)-20):])
	gas := uint64(gasBase + gasPerByte*len(data))
	chain := uint256.MustFromBig(signer.ChainID())
	var inner types.TxData
	switch kind := rng.IntN(20); {
	case kind < 3:
		inner = &types.LegacyTx{Nonce: id, GasPrice: big.NewInt(30 * gwei), Gas: gas, To: &to, Value: big.NewInt(1), Data: data}
	case kind < 5:
		inner = &types.AccessListTx{
			ChainID: signer.ChainID(), Nonce: id, GasPrice: big.NewInt(30 * gwei), Gas: gas, To: &to, Value: big.NewInt(1), Data: data,
			AccessList: types.AccessList{{Address: to, StorageKeys: []common.Hash{{1}}}},
		}
	case kind == 5:
		auth, err := types.SignSetCode(f.sender(id+1).private, types.SetCodeAuthorization{ChainID: *chain, Address: to, Nonce: id})
		if err != nil {
			return transaction{}, fmt.Errorf("sign authorization: %w", err)
		}
		inner = &types.SetCodeTx{
			ChainID: chain, Nonce: id, GasTipCap: uint256.NewInt(gwei), GasFeeCap: uint256.NewInt(90 * gwei), Gas: gas, To: to,
			Value: uint256.NewInt(0), Data: data, AuthList: []types.SetCodeAuthorization{auth},
		}
	default:
		inner = &types.DynamicFeeTx{
			ChainID: signer.ChainID(), Nonce: id, GasTipCap: big.NewInt(gwei), GasFeeCap: big.NewInt(90 * gwei), Gas: gas, To: &to,
			Value: big.NewInt(1), Data: data,
		}
	}
	return f.sign(id, inner, signer)
}

// forgeBlob makes a blob transaction with one blob: with its sidecar (in either version) when
// sidecar is not nil, else without.
func (f *txForge) forgeBlob(id uint64, prefix []byte, sidecar *types.BlobTxSidecar) (transaction, error) {
	to := common.BytesToAddress(prefix)
	inner := &types.BlobTx{
		ChainID: uint256.MustFromBig(f.chainID), Nonce: id, GasTipCap: uint256.NewInt(gwei), GasFeeCap: uint256.NewInt(90 * gwei),
		Gas: uint64(gasBase + gasPerByte*len(prefix)), To: to, Value: uint256.NewInt(0), Data: prefix,
		BlobFeeCap: uint256.NewInt(gwei), BlobHashes: emptySidecar(types.BlobSidecarVersion0).BlobHashes(), Sidecar: sidecar,
	}
	return f.sign(id, inner, f.signer)
}

func (f *txForge) sign(id uint64, inner types.TxData, signer types.Signer) (transaction, error) {
	tx, err := types.SignNewTx(f.sender(id).private, signer, inner)
	if err != nil {
		return transaction{}, fmt.Errorf("sign transaction: %w", err)
	}
	raw, err := tx.MarshalBinary()
	if err != nil {
		return transaction{}, fmt.Errorf("encode transaction: %w", err)
	}
	return transaction{hex: "0x" + hex.EncodeToString(raw), hash: tx.Hash()}, nil
}

func (f *txForge) sender(id uint64) key { return f.senders[id%uint64(len(f.senders))] }

// emptySidecar is the sidecar of one blob of zeros: commitment and proofs of the zero polynomial
// are the point at infinity, so no setup has to be loaded.
func emptySidecar(version byte) *types.BlobTxSidecar {
	infinity := kzg4844.Commitment{0xc0}
	n := 1
	if version == types.BlobSidecarVersion1 {
		n = kzg4844.CellProofsPerBlob
	}
	proofs := make([]kzg4844.Proof, n)
	for i := range proofs {
		proofs[i] = kzg4844.Proof(infinity)
	}
	return types.NewBlobTxSidecar(version, []kzg4844.Blob{{}}, []kzg4844.Commitment{infinity}, proofs)
}

// fill writes random bytes without a zero: a zero would be cheaper gas and compress.
func fill(rng *rand.Rand, b []byte) {
	for i := 0; i < len(b); i += 8 {
		v := rng.Uint64() | 0x0101010101010101
		for j := i; j < min(i+8, len(b)); j++ {
			b[j] = byte(v)
			v >>= 8
		}
	}
}
