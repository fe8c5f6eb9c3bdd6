package export

import (
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rlp"
)

// transaction is what the columns say of one transaction.
type transaction struct {
	*types.Transaction
	from    common.Address
	raw     []byte // without a sidecar
	r, s    *big.Int
	parity  uint8
	access  []byte // RLP; nil: none
	authors []byte // RLP; nil: not of that type
}

// senders remembers who signed: most transactions come in several bundles, and a recovery costs
// more than everything else. Two generations of at most cacheSize each; a hash covers the signature.
type senders struct {
	young, old map[common.Hash]common.Address
}

const cacheSize = 32 << 10

func newSenders() *senders { return &senders{young: make(map[common.Hash]common.Address)} }

func (c *senders) of(tx *types.Transaction) (common.Address, error) {
	h := tx.Hash()
	if from, ok := c.young[h]; ok {
		return from, nil
	}
	from, ok := c.old[h]
	if !ok {
		var err error
		if from, err = types.Sender(signerOf(tx), tx); err != nil {
			return from, err
		}
	}
	if len(c.young) >= cacheSize {
		c.young, c.old = make(map[common.Hash]common.Address, cacheSize), c.young
	}
	c.young[h] = from
	return from, nil
}

// signerOf recovers tx whatever its chain is: the record has what came in, valid or not.
func signerOf(tx *types.Transaction) types.Signer {
	if id := tx.ChainId(); id.Sign() > 0 {
		return types.LatestSignerForChainID(id)
	}
	return types.HomesteadSigner{} // refuses all but legacy transactions without a chain
}

// transactions decodes the network-encoded transactions of a bundle.
func (c *senders) transactions(raws [][]byte) ([]transaction, error) {
	txs := make([]transaction, len(raws))
	for i, raw := range raws {
		if err := txs[i].decode(raw, c); err != nil {
			return nil, fmt.Errorf("transaction %d: %w", i, err)
		}
	}
	return txs, nil
}

func (t *transaction) decode(raw []byte, c *senders) (err error) {
	tx := new(types.Transaction)
	if err = tx.UnmarshalBinary(raw); err != nil {
		return err
	}
	if t.raw = raw; tx.BlobTxSidecar() != nil {
		tx = tx.WithoutBlobTxSidecar()
		if t.raw, err = tx.MarshalBinary(); err != nil {
			return err
		}
	}
	t.Transaction = tx
	for _, fee := range [...]*big.Int{tx.GasPrice(), tx.GasFeeCap(), tx.GasTipCap()} {
		if fee.BitLen() > 128 {
			return fmt.Errorf("fee of %d bits", fee.BitLen())
		}
	}
	if t.from, err = c.of(tx); err != nil {
		return err
	}
	var v *big.Int
	v, t.r, t.s = tx.RawSignatureValues()
	t.parity = parity(tx, v)
	if list := tx.AccessList(); len(list) > 0 {
		if t.access, err = rlp.EncodeToBytes(list); err != nil {
			return err
		}
	}
	if tx.Type() == types.SetCodeTxType {
		t.authors, err = rlp.EncodeToBytes(tx.SetCodeAuthorizations())
	}
	return err
}

// parity is the recovery bit: v itself, or what a legacy transaction adds 27, or 35 and twice the
// chain id, to.
func parity(tx *types.Transaction, v *big.Int) uint8 {
	odd := uint8(v.Bit(0)) //nolint:gosec // a bit
	if tx.Type() == types.LegacyTxType {
		return 1 - odd
	}
	return odd
}

// gasPrice, feeCap and tipCap are the fees that a transaction of this type has; nil: none.
func (t *transaction) gasPrice() *big.Int {
	if t.Type() > types.AccessListTxType {
		return nil
	}
	return t.GasPrice()
}

func (t *transaction) feeCap() *big.Int {
	if t.Type() == types.LegacyTxType {
		return nil
	}
	return t.GasFeeCap()
}

func (t *transaction) tipCap() *big.Int {
	if t.Type() <= types.AccessListTxType {
		return nil
	}
	return t.GasTipCap()
}
