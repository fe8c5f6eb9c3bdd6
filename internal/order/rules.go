package order

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/consensus/misc/eip4844"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/txpool"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/core/vm"
	"github.com/ethereum/go-ethereum/crypto/kzg4844"
	"github.com/ethereum/go-ethereum/params"
	"github.com/holiman/uint256"
)

// TxInfo is what validation learns of one transaction.
type TxInfo struct {
	Hash common.Hash
	From common.Address
}

// Rules are the consensus rules of one chain. Safe for concurrent use.
type Rules struct {
	config *params.ChainConfig
	signer types.Signer
	// height stands for "any block of today": forks by number are long past.
	height *big.Int
}

// NewRules returns the rules of the chain with the given id; unknown ids get the newest fork that
// is active on mainnet. An id of zero is an error.
func NewRules(chainID uint64) (*Rules, error) {
	if chainID == 0 {
		return nil, errors.New("chain id is zero")
	}
	config := chainConfig(chainID)
	return &Rules{config: config, signer: types.LatestSigner(config), height: new(big.Int).SetUint64(math.MaxInt64)}, nil
}

func chainConfig(chainID uint64) *params.ChainConfig {
	id := new(big.Int).SetUint64(chainID)
	for _, known := range []*params.ChainConfig{params.MainnetChainConfig, params.SepoliaChainConfig, params.HoodiChainConfig} {
		if known.ChainID.Cmp(id) == 0 {
			return known
		}
	}
	newest := *params.MergedTestChainConfig
	newest.ChainID = id
	return &newest
}

// ChainID is the chain's id.
func (r *Rules) ChainID() uint64 { return r.config.ChainID.Uint64() }

// Warm loads the trusted setup, which the first verification of a sidecar would wait for otherwise:
// one to two seconds of processor time, and 10 MB from then on. It is done once per process.
func (r *Rules) Warm() {
	_ = kzg4844.UseCKZG(false) // loads; only the choice of the C library can fail
}

// Check decodes one network-encoded transaction, applies the rules as of now and recovers its
// sender. Every error is a *Reason. kind says whether it stands alone or in a bundle (a bundle's
// blob transaction must bring its sidecar).
//
// A sidecar's proofs are verified: about 1.5 ms a blob for EIP-4844's, 8 to 14 ms a transaction
// for EIP-7594's, and the trusted setup once per process, see Warm. Everything else costs about
// 60 µs, most of it the recovery.
func (r *Rules) Check(raw []byte, kind Kind, now time.Time) (TxInfo, error) {
	tx := new(types.Transaction)
	if err := tx.UnmarshalBinary(raw); err != nil {
		return TxInfo{}, refuseDecoding(err)
	}
	at := uint64(max(now.Unix(), 0))
	rules := r.config.Rules(r.height, true, at)
	for _, check := range [...]func(*types.Transaction, *params.Rules) *Reason{
		checkType, checkInitCode, checkFees, r.checkChain, checkGasCap,
	} {
		if reason := check(tx, &rules); reason != nil {
			return TxInfo{}, reason
		}
	}
	// The intrinsic gas depends on the sender from Amsterdam on; before, the cheap check is first.
	var from common.Address
	if rules.IsAmsterdam {
		var reason *Reason
		if from, reason = r.sender(tx); reason != nil {
			return TxInfo{}, reason
		}
	}
	if reason := checkIntrinsicGas(tx, from, &rules); reason != nil {
		return TxInfo{}, reason
	}
	if reason := r.checkBlobs(tx, kind, &rules, at); reason != nil {
		return TxInfo{}, reason
	}
	if reason := checkAuthorizations(tx); reason != nil {
		return TxInfo{}, reason
	}
	if !rules.IsAmsterdam {
		var reason *Reason
		if from, reason = r.sender(tx); reason != nil {
			return TxInfo{}, reason
		}
	}
	if sidecar := tx.BlobTxSidecar(); sidecar != nil {
		if reason := verifySidecar(sidecar); reason != nil {
			return TxInfo{}, reason
		}
	}
	return TxInfo{Hash: tx.Hash(), From: from}, nil
}

func refuseDecoding(err error) *Reason {
	if errors.Is(err, types.ErrTxTypeNotSupported) {
		return Refuse(CodeUnsupportedType, err.Error())
	}
	return Refuse(CodeMalformed, "transaction: "+err.Error())
}

// checkType refuses types that the chain does not know yet.
func checkType(tx *types.Transaction, rules *params.Rules) *Reason {
	active := rules.IsBerlin
	switch tx.Type() {
	case types.LegacyTxType:
		active = true
	case types.DynamicFeeTxType:
		active = rules.IsLondon
	case types.BlobTxType:
		active = rules.IsCancun
	case types.SetCodeTxType:
		active = rules.IsPrague
	}
	if !active {
		return Refuse(CodeUnsupportedType, fmt.Sprintf("%v: type %d is not active yet", core.ErrTxTypeNotSupported, tx.Type()))
	}
	return nil
}

func checkInitCode(tx *types.Transaction, rules *params.Rules) *Reason {
	if tx.To() != nil {
		return nil
	}
	if err := vm.CheckMaxInitCodeSize(rules, uint64(len(tx.Data()))); err != nil {
		return Refuse(CodeInitCodeSize, err.Error())
	}
	return nil
}

// checkFees refuses a tip above the cap, and numbers that no account could pay or have.
func checkFees(tx *types.Transaction, _ *params.Rules) *Reason {
	const word = 256
	switch {
	case tx.GasFeeCap().BitLen() > word:
		return Refuse(CodeMalformed, core.ErrFeeCapVeryHigh.Error())
	case tx.GasTipCap().BitLen() > word:
		return Refuse(CodeMalformed, core.ErrTipVeryHigh.Error())
	case tx.Value().BitLen() > word:
		return Refuse(CodeMalformed, core.ErrInsufficientFunds.Error())
	case tx.GasFeeCapIntCmp(tx.GasTipCap()) < 0:
		return Refuse(CodeTipAboveFeeCap, core.ErrTipAboveFeeCap.Error())
	case tx.Nonce() == math.MaxUint64:
		return Refuse(CodeMalformed, core.ErrNonceMax.Error())
	}
	return nil
}

// checkChain allows legacy transactions without a chain id (before EIP-155).
func (r *Rules) checkChain(tx *types.Transaction, _ *params.Rules) *Reason {
	if tx.Type() == types.LegacyTxType && !tx.Protected() {
		return nil
	}
	if have := tx.ChainId(); have.Cmp(r.config.ChainID) != 0 {
		return Refuse(CodeChainID, fmt.Sprintf("%v: have %d want %d", types.ErrInvalidChainId, have, r.config.ChainID))
	}
	return nil
}

func checkGasCap(tx *types.Transaction, rules *params.Rules) *Reason {
	limit := uint64(math.MaxUint64)
	switch {
	case rules.IsAmsterdam:
		limit = params.MaxTxTotalGas
	case rules.IsOsaka:
		limit = params.MaxTxGas
	}
	if tx.Gas() > limit {
		return Refuse(CodeGasLimit, fmt.Sprintf("%v (cap: %d, tx: %d)", core.ErrGasLimitTooHigh, limit, tx.Gas()))
	}
	return nil
}

func checkIntrinsicGas(tx *types.Transaction, from common.Address, rules *params.Rules) *Reason {
	value, _ := uint256.FromBig(tx.Value()) // checkFees refused what overflows
	intrinsic, err := core.IntrinsicGas(tx.Data(), tx.AccessList(), tx.SetCodeAuthorizations(), from, tx.To(), value, *rules)
	if err != nil {
		return Refuse(CodeIntrinsicGas, err.Error())
	}
	if tx.Gas() < intrinsic {
		return Refuse(CodeIntrinsicGas, fmt.Sprintf("%v: gas %d, minimum needed %d", core.ErrIntrinsicGas, tx.Gas(), intrinsic))
	}
	if !rules.IsPrague {
		return nil
	}
	floor, err := core.FloorDataGas(*rules, from, tx.To(), value, tx.Data(), tx.AccessList())
	if err != nil {
		return Refuse(CodeIntrinsicGas, err.Error())
	}
	if tx.Gas() < floor {
		return Refuse(CodeIntrinsicGas, fmt.Sprintf("%v: gas %d, minimum needed %d", core.ErrFloorDataGas, tx.Gas(), floor))
	}
	if rules.IsAmsterdam && max(intrinsic, floor) > params.MaxTxGas {
		return Refuse(CodeIntrinsicGas, fmt.Sprintf("%v: intrinsic cost %d, floor: %d", core.ErrFloorDataGas, intrinsic, floor))
	}
	return nil
}

// checkBlobs applies what can be said of a blob transaction without its blobs' proofs.
func (r *Rules) checkBlobs(tx *types.Transaction, kind Kind, _ *params.Rules, at uint64) *Reason {
	if tx.Type() != types.BlobTxType {
		return nil
	}
	hashes := tx.BlobHashes()
	if len(hashes) == 0 {
		return Refuse(CodeBlobHashes, core.ErrMissingBlobHashes.Error())
	}
	if limit := r.maxBlobs(at); len(hashes) > limit {
		return Refuse(CodeBlobHashes, fmt.Sprintf("%v: blob count %d, limit %d", txpool.ErrTxBlobLimitExceeded, len(hashes), limit))
	}
	for i := range hashes {
		if !kzg4844.IsValidVersionedHash(hashes[i][:]) {
			return Refuse(CodeBlobHashes, fmt.Sprintf("blob %d has invalid hash version", i))
		}
	}
	sidecar := tx.BlobTxSidecar()
	if sidecar == nil {
		if kind == KindTransaction {
			return nil
		}
		return Refuse(CodeBlobSidecar, "missing sidecar in blob transaction")
	}
	return checkSidecar(sidecar, hashes)
}

// maxBlobs is how many blobs one transaction may carry: EIP-7840's schedule per block, and
// EIP-7594's cap per transaction since Osaka.
func (r *Rules) maxBlobs(at uint64) int {
	perBlock := eip4844.MaxBlobsPerBlock(r.config, at)
	if r.config.IsOsaka(r.height, at) {
		return min(perBlock, params.BlobTxMaxBlobs)
	}
	return perBlock
}

func checkAuthorizations(tx *types.Transaction) *Reason {
	if tx.Type() == types.SetCodeTxType && len(tx.SetCodeAuthorizations()) == 0 {
		return Refuse(CodeAuthList, "set code tx must have at least one authorization tuple")
	}
	return nil
}

// sender recovers the sender; a high s is refused (EIP-2).
func (r *Rules) sender(tx *types.Transaction) (common.Address, *Reason) {
	from, err := types.Sender(r.signer, tx)
	if err != nil {
		return common.Address{}, Refuse(CodeBadSender, fmt.Sprintf("%v: %v", txpool.ErrInvalidSender, err))
	}
	return from, nil
}
