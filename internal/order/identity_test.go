package order

import (
	"crypto/sha256"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"
)

func identify(t *testing.T, m Method, params string, nonce uint64) (id, key ID) {
	t.Helper()
	s := mustDecode(t, m, params)
	return s.Identify(testSigner, nonce, s.Nonce == nil)
}

func TestRule03CancelUpdateCancelAgainIsNeverARepeat(t *testing.T) {
	for _, m := range []struct {
		method         Method
		cancel, update string
	}{
		{MethodSendBundle, `[{"txs":[],"uuid":"` + testUUID + `"}]`, `[{"txs":["0x01"],"uuid":"` + testUUID + `"}]`},
		{MethodSendShareBundle, `[{"body":[],"replacementUuid":"` + testUUID + `"}]`, `[{"body":[{"tx":"01"}],"replacementUuid":"` + testUUID + `"}]`},
		{MethodCancelBundle, `[{"replacementUuid":"` + testUUID + `"}]`, `[{"replacementUuid":"` + testUUID + `","x":1}]`},
	} {
		seen := map[ID]bool{}
		for nonce, params := range []string{m.cancel, m.update, m.cancel, m.update} {
			id, _ := identify(t, m.method, params, uint64(nonce))
			require.False(t, seen[id], "%v %d", m.method, nonce)
			seen[id] = true
		}
	}
}

func TestRule03NonceMattersOnlyWithAReplacementKey(t *testing.T) {
	one, _ := identify(t, MethodSendBundle, `[{"txs":["0x01"]}]`, 1)
	two, _ := identify(t, MethodSendBundle, `[{"txs":["0x01"]}]`, 2)
	require.Equal(t, one, two)
}

func TestIDTellsApartEverythingThatTheSenderSaid(t *testing.T) {
	base := `"txs":["0x01","0x0203"]`
	seen := map[ID]string{}
	for _, params := range []string{
		`[{` + base + `}]`,
		`[{"txs":["0x0102","0x03"]}]`,
		`[{"txs":["0x0203","0x01"]}]`,
		`[{` + base + `,"blockNumber":"0x0"}]`,
		`[{` + base + `,"minTimestamp":0}]`,
		`[{` + base + `,"minTimestamp":1}]`,
		`[{` + base + `,"maxTimestamp":1}]`,
		`[{` + base + `,"revertingTxHashes":[` + quoted(1, 32) + `,` + quoted(2, 32) + `]}]`,
		`[{` + base + `,"revertingTxHashes":[` + quoted(2, 32) + `,` + quoted(1, 32) + `]}]`,
		`[{` + base + `,"droppingTxHashes":[` + quoted(2, 32) + `,` + quoted(1, 32) + `]}]`,
		`[{` + base + `,"refundPercent":1}]`,
		`[{` + base + `,"refundRecipient":` + quoted(1, 20) + `}]`,
		`[{` + base + `,"refundIdentity":` + quoted(1, 20) + `}]`,
		`[{` + base + `,"refundTxHashes":[` + quoted(1, 32) + `]}]`,
		`[{` + base + `,"delayedRefund":true}]`,
		`[{` + base + `,"delayedRefund":false}]`,
		`[{` + base + `,"version":"v1"}]`,
		`[{` + base + `,"uuid":"` + testUUID + `"}]`,
		`[{` + base + `,"replacementNonce":1}]`,
		`[{` + base + `,"unknown":1}]`,
		`[{` + base + `,"unknown":1.0}]`,
		`[{` + base + `,"unknowm":1}]`,
	} {
		id, _ := identify(t, MethodSendBundle, params, 0)
		require.NotContains(t, seen, id, params)
		seen[id] = params
	}
	s := mustDecode(t, MethodSendBundle, `[{`+base+`}]`)
	other, _ := s.Identify(common.Address{1}, 0, true)
	require.NotContains(t, seen, other, "another signer")
	same, _ := identify(t, MethodSendBundle, ` [ { "version":"v2", "signingAddress":1, "txs":["0x01","0203"] } ]`, 0)
	require.Contains(t, seen, same, "writing does not matter")
}

func TestRule10KeyIsTheSameByEveryPath(t *testing.T) {
	const uuid = `"replacementUuid":"` + testUUID + `"`
	_, sent := identify(t, MethodSendBundle, `[{"txs":["0x01"],"minTimestamp":0,`+uuid+`,"revertingTxHashes":[`+quoted(2, 32)+`,`+quoted(1, 32)+`],"x":1}]`, 5)
	_, byV1 := identify(t, MethodSendBundle, `[{"txs":["0x01"],"blockNumber":null,`+uuid+`,"version":"v2","revertingTxHashes":[`+quoted(1, 32)+`,`+quoted(2, 32)+`]}]`, 6)
	require.Equal(t, sent, byV1, "sorted lists, unknown fields and defaulted nonces make no other key")

	_, explicit := identify(t, MethodSendBundle, `[{"txs":["0x01"],"replacementNonce":6,`+uuid+`,"revertingTxHashes":[`+quoted(1, 32)+`,`+quoted(2, 32)+`]}]`, 6)
	require.NotEqual(t, sent, explicit)

	s := mustDecode(t, MethodSendBundle, `[{"txs":["0x01"]}]`)
	_, mine := s.Identify(testSigner, 0, true)
	_, yours := s.Identify(common.Address{1}, 0, true)
	require.NotEqual(t, mine, yours)
}

func TestKeyOfShareBundlesCoversBodiesAndRefunds(t *testing.T) {
	seen := map[ID]bool{}
	for _, params := range []string{
		`[{"body":[{"tx":"01"}]}]`,
		`[{"body":[{"tx":"01","canRevert":true}]}]`,
		`[{"body":[{"tx":"01","revertMode":"drop"}]}]`,
		`[{"body":[{"bundle":{"body":[{"tx":"01"}]}}]}]`,
		`[{"body":[{"tx":"01"}],"inclusion":{"block":"0x1"}}]`,
		`[{"body":[{"tx":"01"}],"inclusion":{"maxBlock":"0x1"}}]`,
		`[{"body":[{"tx":"01"}],"validity":{"refund":[{"bodyIdx":0,"percent":1}]}}]`,
		`[{"body":[{"tx":"01"}],"validity":{"refundConfig":[{"address":` + quoted(1, 20) + `,"percent":1}]}}]`,
	} {
		_, key := identify(t, MethodSendShareBundle, params, 0)
		require.False(t, seen[key], params)
		seen[key] = true
	}
	id, key := identify(t, MethodSendShareBundle, `[{"body":[{"tx":"01"}]}]`, 0)
	otherID, sameKey := identify(t, MethodSendShareBundle, `[{"body":[{"x":2,"tx":"0x01"}],"x":1}]`, 0)
	require.NotEqual(t, id, otherID)
	require.Equal(t, key, sameKey)
}

func TestRawTransactionIsItsHashByEveryMethod(t *testing.T) {
	raw := signedTx(t, dynamicFee(t))
	hash := ID(TransactionHash(raw))
	for method, params := range map[Method]string{
		MethodSendRawTransaction:        `["` + hexOf(raw) + `"]`,
		MethodSendPrivateRawTransaction: `["` + hexOf(raw) + `",{}]`,
		MethodSendPrivateTransaction:    `[{"tx":"` + hexOf(raw) + `"}]`,
	} {
		id, key := identify(t, method, params, 1)
		require.Equal(t, hash, id)
		require.Equal(t, hash, key)
	}
}

func TestBadSidecarDoesNotShareTheIDOfAGoodCopy(t *testing.T) {
	for _, version := range []byte{0, 1} {
		bare, good := blobTx(t, version, 1)
		bad := append([]byte(nil), good...)
		bad[len(bad)-1] ^= 1
		require.Equal(t, TransactionHash(bare), TransactionHash(good))

		goodID, goodKey := identify(t, MethodSendRawTransaction, `["`+hexOf(good)+`"]`, 0)
		badID, badKey := identify(t, MethodSendRawTransaction, `["`+hexOf(bad)+`"]`, 0)
		bareID, bareKey := identify(t, MethodSendRawTransaction, `["`+hexOf(bare)+`"]`, 0)
		require.Equal(t, ID(sha256.Sum256(good)), goodID)
		require.NotEqual(t, goodID, badID)
		require.Equal(t, ID(TransactionHash(bare)), bareID)
		require.Equal(t, goodKey, badKey)
		require.Equal(t, goodKey, bareKey)
	}
}

func TestAllRevertingNeedsEveryTransactionsHash(t *testing.T) {
	one, two := signedTx(t, dynamicFee(t)), signedTx(t, legacy(t))
	h1, h2 := TransactionHash(one).Hex(), TransactionHash(two).Hex()
	bundle := func(reverting string) *Submission {
		return mustDecode(t, MethodSendBundle, `[{"txs":["`+hexOf(one)+`","`+hexOf(two)+`"],"revertingTxHashes":[`+reverting+`]}]`)
	}
	require.True(t, bundle(`"`+h2+`","`+h1+`"`).AllReverting())
	require.False(t, bundle(`"`+h2+`"`).AllReverting())
	require.False(t, bundle(`"`+h2+`",`+quoted(1, 32)).AllReverting())
	require.False(t, mustDecode(t, MethodSendRawTransaction, `["`+hexOf(one)+`"]`).AllReverting())
	require.False(t, mustDecode(t, MethodSendBundle, `[{"uuid":"`+testUUID+`"}]`).AllReverting())
}
