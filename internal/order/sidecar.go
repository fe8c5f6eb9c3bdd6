package order

import (
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/txpool"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto/kzg4844"
)

// checkSidecar compares a sidecar's counts and commitments with the transaction's hashes. Both
// versions are taken at any time: builders convert them.
func checkSidecar(sc *types.BlobTxSidecar, hashes []common.Hash) *Reason {
	if err := sc.ValidateBlobCommitmentHashes(hashes); err != nil {
		return Refuse(CodeBlobSidecar, err.Error())
	}
	if len(sc.Blobs) != len(hashes) {
		return Refuse(CodeBlobSidecar, fmt.Sprintf("invalid number of %d blobs compared to %d blob hashes", len(sc.Blobs), len(hashes)))
	}
	proofs := len(hashes)
	if sc.Version == types.BlobSidecarVersion1 {
		proofs *= kzg4844.CellProofsPerBlob
	}
	if len(sc.Proofs) != proofs {
		return Refuse(CodeBlobSidecar, fmt.Sprintf("%v: invalid number of %d blob proofs expected %d", txpool.ErrSidecarFormatError, len(sc.Proofs), proofs))
	}
	return nil
}

// verifySidecar checks the proofs: EIP-4844's one per blob or EIP-7594's one per cell.
func verifySidecar(sc *types.BlobTxSidecar) *Reason {
	if sc.Version == types.BlobSidecarVersion1 {
		if err := kzg4844.VerifyCellProofs(sc.Blobs, sc.Commitments, sc.Proofs); err != nil {
			return Refuse(CodeBlobSidecar, fmt.Sprintf("%v: %v", txpool.ErrKZGVerificationError, err))
		}
		return nil
	}
	for i := range sc.Blobs {
		if err := kzg4844.VerifyBlobProof(&sc.Blobs[i], sc.Commitments[i], sc.Proofs[i]); err != nil {
			return Refuse(CodeBlobSidecar, fmt.Sprintf("%v: blob %d: %v", txpool.ErrKZGVerificationError, i, err))
		}
	}
	return nil
}
