package workers

import (
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/holiman/uint256"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

// violation is an order that must be refused.
type violation struct {
	name  string
	code  order.Code
	order *order.Order
}

func TestRule09EveryViolationEndsInOneRecord(t *testing.T) {
	var seen []order.Code
	for _, v := range slices.Concat(transactionViolations(t), bundleViolations(t), bodyViolations(t)) {
		seen = append(seen, v.code)
		t.Run(v.name, func(t *testing.T) {
			s := newStore()
			p := start(t, s, 1, realRules(t))
			reason := order.AsReason(p.deliver(delivery(v.order, 1)))
			require.NotNil(t, reason)
			require.Equal(t, v.code, reason.Code, reason.Text)
			require.Equal(t, []string{"refusal", "record", "verdict"}, s.trail, "in this order, and never OK")
			e := s.records[v.order.Accept]
			require.Equal(t, ledger.Invalid, e.Outcome)
			require.Equal(t, v.code, e.Code)
			require.True(t, strings.HasPrefix(reason.Text, e.Text), "record %q of %q", e.Text, reason.Text)
			require.Equal(t, searcher, e.Signer)
			require.Equal(t, reason, s.refusals[v.order.ID])
			require.Equal(t, reason, s.verdicts[0].Reason)
			require.Equal(t, v.order.Accept, s.verdicts[0].Accept)
			require.InDelta(t, 1, testutil.ToFloat64(p.metrics.verdicts[v.code]), 0)
		})
	}
	for _, c := range order.Codes() {
		switch c {
		case order.CodeNonceConflict, order.CodeExpired, order.CodeOversized, order.CodePoisoned:
			// The door's, or not the rules'.
		default:
			require.Contains(t, seen, c, "no violation is tested for %s", c)
		}
	}
}

// transactionViolations break each rule for a transaction, in a bundle behind a good one.
func transactionViolations(t *testing.T) []violation {
	t.Helper()
	var vs []violation
	add := func(name string, code order.Code, raw []byte) {
		vs = append(vs, violation{name, code, acceptedBundle(t, sign(t, "good", legacyTx()), raw)})
	}
	dynamic := func(change func(*types.DynamicFeeTx)) []byte {
		tx := dynamicTx(1)
		change(tx)
		return sign(t, "a", tx)
	}
	add("other chain", order.CodeChainID, foreignChain(t))
	add("gas above the cap", order.CodeGasLimit, dynamic(func(tx *types.DynamicFeeTx) { tx.Gas = 1<<24 + 1 }))
	add("gas below the intrinsic", order.CodeIntrinsicGas, dynamic(func(tx *types.DynamicFeeTx) { tx.Gas = 20999 }))
	add("gas below the floor", order.CodeIntrinsicGas, dynamic(func(tx *types.DynamicFeeTx) { tx.Gas, tx.Data = 26000, make([]byte, 1000) }))
	add("tip above the cap", order.CodeTipAboveFeeCap, dynamic(func(tx *types.DynamicFeeTx) { tx.GasTipCap = big.NewInt(2e9) }))
	add("init code too large", order.CodeInitCodeSize, dynamic(func(tx *types.DynamicFeeTx) {
		tx.To, tx.Gas, tx.Data = nil, 1<<24, make([]byte, 2*24576+1)
	}))
	noHashes := blobTx()
	noHashes.BlobHashes, noHashes.Sidecar = nil, nil
	add("blob transaction without hashes", order.CodeBlobHashes, sign(t, "a", noHashes))
	noSidecar := blobTx()
	noSidecar.Sidecar = nil
	add("bundled blob transaction without sidecar", order.CodeBlobSidecar, sign(t, "a", noSidecar))
	wrong := blobTx()
	wrong.BlobHashes = []common.Hash{{1, 2, 3}}
	add("sidecar of other blobs", order.CodeBlobSidecar, sign(t, "a", wrong))
	noList := setCodeTx()
	noList.AuthList = nil
	add("empty authorization list", order.CodeAuthList, sign(t, "a", noList))
	add("unknown type", order.CodeUnsupportedType, []byte{0x05, 0xc0})
	add("truncated", order.CodeMalformed, sign(t, "a", dynamicTx(1))[:50])
	add("empty", order.CodeMalformed, []byte{})
	add("high s", order.CodeBadSender, highS(t))
	alone := dynamicTx(1)
	alone.Gas = 20999
	return append(vs, violation{
		"transaction that stands alone", order.CodeIntrinsicGas,
		accepted(t, order.MethodSendRawTransaction, rawBody(sign(t, "a", alone))),
	})
}

func foreignChain(t *testing.T) []byte {
	t.Helper()
	tx := types.NewTx(&types.DynamicFeeTx{
		ChainID: big.NewInt(5), GasTipCap: big.NewInt(1), GasFeeCap: big.NewInt(1e9), Gas: 21000, To: &someone,
		V: big.NewInt(0), R: big.NewInt(1), S: big.NewInt(1),
	})
	raw, err := tx.MarshalBinary()
	require.NoError(t, err)
	return raw
}

// highS is a good transaction with the other signature of the same key, which EIP-2 forbids.
func highS(t *testing.T) []byte {
	t.Helper()
	var tx types.Transaction
	require.NoError(t, tx.UnmarshalBinary(sign(t, "a", dynamicTx(1))))
	v, r, s := tx.RawSignatureValues()
	n, _ := new(big.Int).SetString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16)
	flipped := types.NewTx(&types.DynamicFeeTx{
		ChainID: tx.ChainId(), Nonce: tx.Nonce(), GasTipCap: tx.GasTipCap(), GasFeeCap: tx.GasFeeCap(), Gas: tx.Gas(),
		To: tx.To(), Value: tx.Value(), V: new(big.Int).Xor(v, big.NewInt(1)), R: r, S: new(big.Int).Sub(n, s),
	})
	raw, err := flipped.MarshalBinary()
	require.NoError(t, err)
	return raw
}

// bundleViolations break each rule for a bundle.
func bundleViolations(t *testing.T) []violation {
	t.Helper()
	good := sign(t, "good", legacyTx())
	bundle := func(extra string, txs ...[]byte) *order.Order {
		return accepted(t, order.MethodSendBundle, bundleBody(extra, txs...))
	}
	return []violation{
		{"too many transactions", order.CodeTxCount, bundle("", slices.Repeat([][]byte{good}, order.DefaultMaxTxs+1)...)},
		{"no transaction and no replacement", order.CodeEmptyBundle, bundle("")},
		{"unknown version", order.CodeBundleFields, bundle(`,"version":"v9"`, good)},
		{"field of v2 in v1", order.CodeBundleFields, bundle(`,"version":"v1","refundPercent":10`, good)},
	}
}

// bodyViolations are stored bytes that no door of this version would store.
func bodyViolations(t *testing.T) []violation {
	t.Helper()
	good := bundleBody("", sign(t, "good", legacyTx()))
	return []violation{
		{"not JSON", order.CodeMalformed, accepted(t, order.MethodSendBundle, "not JSON")},
		{"batch", order.CodeMalformed, accepted(t, order.MethodSendBundle, "["+good+","+good+"]")},
		{"no params", order.CodeMalformed, accepted(t, order.MethodSendBundle, `{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle"}`)},
		{"method that takes no order", order.CodeMalformed, accepted(t, order.MethodSendBundle, `{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[]}`)},
	}
}

func TestALongReasonIsCutInTheRecordOnly(t *testing.T) {
	s := newStore()
	long := order.Refuse(order.CodeBadSender, strings.Repeat("very long ", 100))
	p := start(t, s, 1, refuseWith(long))
	o := acceptedBundle(t, sign(t, "a", dynamicTx(1)))
	require.Equal(t, long, order.AsReason(p.deliver(delivery(o, 1))))
	require.Less(t, len(s.records[o.Accept].Text), len(long.Text))
	require.Equal(t, long, s.refusals[o.ID])
}

func TestTheRefusedTransactionIsNamed(t *testing.T) {
	bad := dynamicTx(1)
	bad.GasTipCap = new(uint256.Int).SetAllOne().ToBig()
	s := newStore()
	o := acceptedBundle(t, sign(t, "a", dynamicTx(2)), sign(t, "a", bad))
	err := start(t, s, 1, realRules(t)).deliver(delivery(o, 1))
	require.ErrorContains(t, err, "tx 1: ")
}
