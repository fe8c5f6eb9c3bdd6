package order

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"
)

func TestDecodeReadsEveryFieldOfABundle(t *testing.T) {
	s := mustDecode(t, MethodSendBundle, vectorBundle())
	require.Equal(t, KindBundle, s.Kind)
	require.Len(t, s.Txs, 2)
	require.Equal(t, []byte{2, 0xf8, 0x62}, s.Txs[0])
	require.Equal(t, testUUID, s.Replacement.String())
	require.Equal(t, uint64(8976), *s.Nonce)
	require.Equal(t, uint64(1000), s.TargetBlock)
	require.Equal(t, uint64(1730000000), s.MaxTimestamp)
	b := s.bundle
	require.Equal(t, strings.Repeat("\x11", 32), string(b.reverting))
	require.Equal(t, strings.Repeat("\x22", 32)+strings.Repeat("\x33", 32), string(b.dropping))
	require.Equal(t, strings.Repeat("\x55", 32), string(b.refundTxs))
	require.Equal(t, uint64(90), b.refundPercent)
	require.Equal(t, common.HexToAddress(strings.Repeat("44", 20)), b.refundRecipient)
	require.True(t, b.delayed)
	require.Empty(t, s.unknown)
}

func TestDecodeTakesWhatBothPredecessorsTake(t *testing.T) {
	const tx = `"txs":["0x01"]`
	for _, tc := range []struct {
		name, bundle string
		want         any
		got          func(s *Submission) any
	}{
		{"block in hex of any case", `{` + tx + `,"blockNumber":"0XaB"}`, uint64(0xab), func(s *Submission) any { return s.TargetBlock }},
		{"block with leading zeros", `{` + tx + `,"blockNumber":"0x00ab"}`, uint64(0xab), func(s *Submission) any { return s.TargetBlock }},
		{"block without digits", `{` + tx + `,"blockNumber":"0x"}`, true, func(s *Submission) any { return s.bundle.hasAny(hasBlock) }},
		{"block in decimal", `{` + tx + `,"blockNumber":"17"}`, uint64(17), func(s *Submission) any { return s.TargetBlock }},
		{"block as a number", `{` + tx + `,"blockNumber":17}`, uint64(17), func(s *Submission) any { return s.TargetBlock }},
		{"block null", `{` + tx + `,"blockNumber":null}`, false, func(s *Submission) any { return s.bundle.hasAny(hasBlock) }},
		{"hex without prefix", `{"txs":["01aB"]}`, []byte{1, 0xab}, func(s *Submission) any { return s.Txs[0] }},
		{"byte values", `{"txs":[[1, 255 ,0]]}`, []byte{1, 255, 0}, func(s *Submission) any { return s.Txs[0] }},
		{"escaped digits and names", `{"t\u0078s":["0\u00780\u0031"]}`, []byte{1}, func(s *Submission) any { return s.Txs[0] }},
		{"empty version", `{` + tx + `,"version":""}`, "v2", func(s *Submission) any { return s.bundle.version }},
		{"first version", `{` + tx + `,"version":"v1","revertingTxHashes":[],"droppingTxHashes":[],"refundIdentity":` + quoted(1, 20) + `}`, "v1", func(s *Submission) any { return s.bundle.version }},
		{"uuid wins", `{` + tx + `,"replacementUuid":"` + testUUID + `","uuid":"` + strings.Repeat("a", 32) + `"}`, "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa", func(s *Submission) any { return s.Replacement.String() }},
		{"uuid in braces", `{` + tx + `,"uuid":"{` + testUUID + `}"}`, testUUID, func(s *Submission) any { return s.Replacement.String() }},
		{"uuid as urn", `{` + tx + `,"uuid":"urn:uuid:` + testUUID + `"}`, testUUID, func(s *Submission) any { return s.Replacement.String() }},
		{"nonce without uuid means nothing", `{` + tx + `,"replacementNonce":5}`, true, func(s *Submission) any { return s.Nonce == nil }},
		{"largest nonce", `{` + tx + `,"uuid":"` + testUUID + `","replacementNonce":18446744073709551615}`, ^uint64(0), func(s *Submission) any { return *s.Nonce }},
		{"nulls", `{` + tx + `,"revertingTxHashes":null,"droppingTxHashes":null,"uuid":null,"replacementUuid":null,"replacementNonce":null,"refundPercent":null,"refundRecipient":null,"refundTxHashes":null,"refundIdentity":null,"version":null,"minTimestamp":null,"maxTimestamp":null,"delayedRefund":null,"signingAddress":null,"bundleHash":null}`, fields(0), func(s *Submission) any { return s.bundle.has }},
		{"sender's own signer and hash", `{` + tx + `,"signingAddress":17,"bundleHash":[]}`, 0, func(s *Submission) any { return len(s.unknown) }},
		{"names are case-sensitive", `{` + tx + `,"Txs":[],"BlockNumber":7}`, 2, func(s *Submission) any { return len(s.unknown) }},
		{"cancel", `{"txs":[],"uuid":"` + testUUID + `"}`, KindCancel, func(s *Submission) any { return s.Kind }},
		{"cancel without txs", `{"replacementUuid":"` + testUUID + `","version":"v7"}`, KindCancel, func(s *Submission) any { return s.Kind }},
		{"cancel with null txs", `{"txs":null,"replacementUuid":"` + testUUID + `","replacementNonce":7}`, uint64(7), func(s *Submission) any { return *s.Nonce }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Equal(t, tc.want, tc.got(mustDecode(t, MethodSendBundle, "["+tc.bundle+"]")))
		})
	}
}

func TestDecodeRefusesEachFaultOfABundleWithItsPlace(t *testing.T) {
	nested := strings.Repeat("[", 70) + strings.Repeat("]", 70)
	for _, tc := range []struct {
		params, text string
		code         Code
	}{
		{``, "params: expected an array", CodeMalformed},
		{`null`, "params: expected an array", CodeMalformed},
		{`{}`, "params: expected an array", CodeMalformed},
		{`[]`, "params: expected a parameter", CodeMalformed},
		{`[{"txs":["0x01"]},{}]`, "params: more parameters than expected", CodeMalformed},
		{`[{"txs":["0x01"]}] []`, "params: data after the array", CodeMalformed},
		{`[5]`, "expected an object", CodeMalformed},
		{`[{"txs":["0x01"]`, "JSON: unexpected EOF after byte 16", CodeMalformed},
		{`[{"txs":{}}]`, "txs: expected an array", CodeMalformed},
		{`[{"txs":["0x01","0x1"]}]`, "txs[1]: expected a hex string", CodeMalformed},
		{`[{"txs":["0xzz"]}]`, "txs[0]: expected a hex string", CodeMalformed},
		{`[{"txs":["0X01"]}]`, "txs[0]: expected a hex string", CodeMalformed},
		{`[{"txs":[7]}]`, "txs[0]: expected a hex string", CodeMalformed},
		{`[{"txs":["0x"]}]`, "txs[0]: empty transaction", CodeMalformed},
		{`[{"txs":[[1,256]]}]`, "txs[0][1]: expected a byte", CodeMalformed},
		{`[{"txs":[[1.5]]}]`, "txs[0][0]: expected an unsigned 64-bit number", CodeMalformed},
		{`[{"txs":[` + strings.Repeat(`"01",`, 100) + `"01"]}]`, "txs[100]: more than 100 transactions", CodeTxCount},
		{`[{"txs":["0x01"],"blockNumber":"latest"}]`, "blockNumber: expected a hex quantity", CodeMalformed},
		{`[{"txs":["0x01"],"blockNumber":""}]`, "blockNumber: expected a hex quantity", CodeMalformed},
		{`[{"txs":["0x01"],"blockNumber":{}}]`, "blockNumber: expected a hex quantity", CodeMalformed},
		{`[{"txs":["0x01"],"blockNumber":"0x10000000000000000"}]`, "blockNumber: expected a hex quantity", CodeMalformed},
		{`[{"txs":["0x01"],"minTimestamp":"1"}]`, "minTimestamp: expected an unsigned 64-bit number", CodeMalformed},
		{`[{"txs":["0x01"],"maxTimestamp":-1}]`, "maxTimestamp: expected an unsigned 64-bit number", CodeMalformed},
		{`[{"txs":["0x01"],"maxTimestamp":18446744073709551616}]`, "maxTimestamp: expected an unsigned 64-bit number", CodeMalformed},
		{`[{"txs":["0x01"],"revertingTxHashes":["0x01"]}]`, "revertingTxHashes[0]: expected a 32-byte hex hash", CodeMalformed},
		{`[{"txs":["0x01"],"droppingTxHashes":true}]`, "droppingTxHashes: expected an array", CodeMalformed},
		{`[{"txs":["0x01"],"uuid":"x"}]`, "uuid: expected a UUID", CodeMalformed},
		{`[{"txs":["0x01"],"replacementUuid":""}]`, "replacementUuid: expected a UUID", CodeMalformed},
		{`[{"txs":["0x01"],"uuid":"00000000-0000-0000-0000-000000000000"}]`, "uuid: must not be the nil UUID", CodeMalformed},
		{`[{"txs":["0x01"],"replacementNonce":1e3}]`, "replacementNonce: expected an unsigned 64-bit number", CodeMalformed},
		{`[{"txs":["0x01"],"version":"v3"}]`, "version: invalid version", CodeBundleFields},
		{`[{"txs":["0x01"],"version":2}]`, "version: expected a string", CodeMalformed},
		{`[{"txs":["0x01"],"refundPercent":100}]`, "refundPercent: must be below 100", CodeBundleFields},
		{`[{"txs":["0x01"],"refundRecipient":"0x01"}]`, "refundRecipient: expected a 20-byte hex address", CodeMalformed},
		{`[{"txs":["0x01"],"refundTxHashes":[` + quoted(1, 32) + `,` + quoted(2, 32) + `]}]`, "refundTxHashes: no more than one refund tx hash is allowed", CodeBundleFields},
		{`[{"txs":["0x01"],"delayedRefund":1}]`, "delayedRefund: expected true or false", CodeMalformed},
		{`[{"txs":["0x01"],"version":"v1","droppingTxHashes":[` + quoted(1, 32) + `]}]`, "droppingTxHashes: not allowed in a v1 bundle", CodeBundleFields},
		{`[{"txs":["0x01"],"version":"v1","refundPercent":0}]`, "refundPercent: not allowed in a v1 bundle", CodeBundleFields},
		{`[{"txs":["0x01"],"version":"v1","refundRecipient":` + quoted(1, 20) + `}]`, "refundRecipient: not allowed in a v1 bundle", CodeBundleFields},
		{`[{"txs":["0x01"],"version":"v1","refundTxHashes":[]}]`, "refundTxHashes: not allowed in a v1 bundle", CodeBundleFields},
		{`[{"txs":["0x01"],"version":"v1","delayedRefund":false}]`, "delayedRefund: not allowed in a v1 bundle", CodeBundleFields},
		{`[{"txs":[]}]`, "bundle has no transactions and no uuid to cancel", CodeEmptyBundle},
		{`[{}]`, "bundle has no transactions and no uuid to cancel", CodeEmptyBundle},
		{`[{"txs":["0x01"],"txs":["0x02"]}]`, `duplicate member "txs"`, CodeMalformed},
		{`[{"txs":["0x01"],"t\u0078s":["0x02"]}]`, `duplicate member "txs"`, CodeMalformed},
		{`[{"txs":["0x01"],"x":{"y":1,"y":1}}]`, `duplicate member "y"`, CodeMalformed},
		{`[{"txs":["0x01"],"x":` + nested + `}]`, "nested deeper than 64 levels", CodeMalformed},
		{`[{"txs":["0x01"],"signingAddress":` + nested + `}]`, "nested deeper than 64 levels", CodeMalformed},
		{`[{"txs":["0x01"],"x":nul}]`, "JSON: invalid character '}' in literal null (expecting 'l') after byte 24", CodeMalformed},
		{"[{\"txs\":[\"0x01\"],\"x\":\"\xff\"}]", "JSON: invalid UTF-8 after byte 22", CodeMalformed},
	} {
		_, err := Decode(MethodSendBundle, []byte(tc.params), Limits{})
		reason := AsReason(err)
		require.NotNil(t, reason, tc.params)
		require.Equal(t, tc.text, reason.Text, tc.params)
		require.Equal(t, tc.code, reason.Code, tc.params)
	}
}

func TestDecodeBoundsWhatARefusalRepeats(t *testing.T) {
	name := strings.Repeat("é", 10000)
	_, err := Decode(MethodSendBundle, fmt.Appendf(nil, `[{%q:1,%q:1}]`, name, name), Limits{})
	require.Error(t, err)
	require.Less(t, len(err.Error()), 300)
}

func TestDecodeHonoursTheTransactionLimit(t *testing.T) {
	params := []byte(`[{"txs":["01","02","03"]}]`)
	_, err := Decode(MethodSendBundle, params, Limits{MaxTxs: 3})
	require.NoError(t, err)
	_, err = Decode(MethodSendBundle, params, Limits{MaxTxs: 2})
	require.Equal(t, CodeTxCount, AsReason(err).Code)
	share := []byte(`[{"body":[{"tx":"01"},{"bundle":{"body":[{"tx":"02"},{"tx":"03"}]}}]}]`)
	_, err = Decode(MethodSendShareBundle, share, Limits{MaxTxs: 2})
	require.Equal(t, CodeTxCount, AsReason(err).Code)
}

func TestDecodeReadsShareBundles(t *testing.T) {
	s := mustDecode(t, MethodSendShareBundle, `[{"version":"v0.1","replacementUuid":"`+testUUID+`","inclusion":{"block":"0x10","maxBlock":"0x12","x":1},
		"body":[{"tx":"0x01","canRevert":true},{"bundle":{"version":"v0.1","inclusion":{"block":"0x10"},"body":[{"tx":"0x02","revertMode":"drop"},{"tx":"0x03"}],"metadata":null}}],
		"validity":{"refund":[{"bodyIdx":0,"percent":90}],"refundConfig":[{"address":`+quoted(7, 20)+`,"percent":100}]},"privacy":{"hints":["hash"]},"metadata":null,"x":[]}]`)
	require.Equal(t, KindShareBundle, s.Kind)
	require.Equal(t, [][]byte{{1}, {2}, {3}}, s.Txs)
	require.Equal(t, uint64(0x12), s.TargetBlock)
	require.Equal(t, testUUID, s.Replacement.String())
	require.Equal(t, []refundConstraint{{0, 90}}, s.share.refunds)
	require.Equal(t, uint64(100), s.share.refundConfigs[0].percent)
	require.JSONEq(t, `{"hints":["hash"]}`, string(s.share.privacy))
	require.False(t, s.AllReverting())
	require.Nil(t, s.Nonce)

	s = mustDecode(t, MethodSendShareBundle, `[{"inclusion":{"block":"0x10"},"body":[],"replacementUuid":"`+testUUID+`"}]`)
	require.Equal(t, KindCancel, s.Kind)
	require.Equal(t, uint64(0x10), s.TargetBlock)
	s = mustDecode(t, MethodSendShareBundle, `[{"body":[{"tx":"01","canRevert":true},{"bundle":{"body":[{"tx":"02","revertMode":"allow"}]}}]}]`)
	require.True(t, s.AllReverting())
}

func TestDecodeRefusesEachFaultOfAShareBundle(t *testing.T) {
	for _, tc := range []struct{ params, text string }{
		{`[{"body":[]}]`, "bundle with no txs"},
		{`[{"body":[],"replacementUuid":""}]`, "bundle with no txs"},
		{`[{"body":[{"hash":` + quoted(1, 32) + `}]}]`, "body[0]: mev bundle with unmatched tx"},
		{`[{"body":[{"tx":"01"},{}]}]`, "body[1]: expected tx or bundle"},
		{`[{"body":[{"tx":"01","bundle":{"body":[{"tx":"01"}]}}]}]`, "body[0]: both tx and bundle are set"},
		{`[{"body":[{"tx":1}]}]`, "body[0].tx: expected a hex string"},
		{`[{"body":[{"bundle":{"body":[{"bundle":{"body":[{"tx":"01"}]}}]}}]}]`, "body[0].bundle.body[0].bundle: mev bundle too deep"},
		{`[{"body":[{"bundle":{"body":[]}}]}]`, "body[0].bundle: bundle with no txs"},
		{`[{"body":[{"tx":"01"}],"metadata":{}}]`, "metadata: must not be set by the sender"},
		{`[{"body":[{"bundle":{"metadata":{"signer":""},"body":[{"tx":"01"}]}}]}]`, "body[0].bundle.metadata: must not be set by the sender"},
		{`[{"body":[{"tx":"01","canRevert":"yes"}]}]`, "body[0].canRevert: expected true or false"},
		{`[{"body":[{"tx":"01","revertMode":"maybe"}]}]`, "body[0].revertMode: expected allow, drop or fail"},
		{`[{"body":[{"tx":"01"}],"inclusion":[]}]`, "inclusion: expected an object"},
		{`[{"body":[{"tx":"01"}],"inclusion":{"block":true}}]`, "inclusion.block: expected a hex quantity"},
		{`[{"body":[{"tx":"01"}],"replacementUuid":"x"}]`, "replacementUuid: expected a UUID"},
		{`[{"body":[{"tx":"01"}],"validity":{"refund":[{"percent":-1}]}}]`, "validity.refund[0].percent: expected an unsigned 64-bit number"},
		{`[{"body":[{"tx":"01"}],"validity":{"refundConfig":[{"address":"01"}]}}]`, "validity.refundConfig[0].address: expected a 20-byte hex address"},
		{`[{"body":[{"tx":"01"}],"version":1}]`, "version: expected a string"},
	} {
		_, err := Decode(MethodSendShareBundle, []byte(tc.params), Limits{})
		require.NotNil(t, AsReason(err), tc.params)
		require.Equal(t, tc.text, err.Error(), tc.params)
	}
}

func TestDecodeReadsTransactionsAndCancels(t *testing.T) {
	raw := mustDecode(t, MethodSendRawTransaction, ` [ "0x01aB" ] `)
	require.Equal(t, KindTransaction, raw.Kind)
	require.Equal(t, [][]byte{{1, 0xab}}, raw.Txs)
	require.Equal(t, `"0x01aB"`, string(raw.Params))
	require.Equal(t, [][]byte{{1, 2}}, mustDecode(t, MethodSendRawTransaction, `[[1,2]]`).Txs)

	private := mustDecode(t, MethodSendPrivateTransaction, `[{"tx":"0x01ab","maxBlockNumber":"0x11","preferences":{"fast":true}}]`)
	require.Equal(t, KindTransaction, private.Kind)
	require.Equal(t, uint64(17), private.TargetBlock)
	require.Equal(t, raw.Txs, private.Txs)
	require.Equal(t, raw.Txs, mustDecode(t, MethodSendPrivateRawTransaction, `["01ab",{"fast":true}]`).Txs)
	require.Equal(t, raw.Txs, mustDecode(t, MethodSendPrivateRawTransaction, `["01ab"]`).Txs)

	cancel := mustDecode(t, MethodCancelBundle, `[{"replacementUuid":"`+testUUID+`","signingAddress":"x","more":1}]`)
	require.Equal(t, KindCancel, cancel.Kind)
	require.Equal(t, testUUID, cancel.Replacement.String())
}

func TestDecodeRefusesEachFaultOfTheOtherMethods(t *testing.T) {
	for _, tc := range []struct {
		method       Method
		params, text string
	}{
		{MethodSendRawTransaction, `[{}]`, "transaction: expected a hex string"},
		{MethodSendRawTransaction, `["0x"]`, "transaction: empty transaction"},
		{MethodSendRawTransaction, `["01","02"]`, "params: more parameters than expected"},
		{MethodSendPrivateRawTransaction, `["01",{},{}]`, "params: more parameters than expected"},
		{MethodSendPrivateRawTransaction, `["01",{"a":1,"a":2}]`, `preferences: duplicate member "a"`},
		{MethodSendPrivateTransaction, `[{}]`, "tx: expected a member"},
		{MethodSendPrivateTransaction, `["01"]`, "expected an object"},
		{MethodSendPrivateTransaction, `[{"tx":"01","maxBlockNumber":[]}]`, "maxBlockNumber: expected a hex quantity"},
		{MethodCancelBundle, `[{}]`, "replacementUuid: expected a UUID"},
		{MethodCancelBundle, `[{"replacementUuid":null}]`, "replacementUuid: expected a UUID"},
		{MethodCancelBundle, `["` + testUUID + `"]`, "expected an object"},
		{Method(99), `[1]`, "method takes no order"},
	} {
		_, err := Decode(tc.method, []byte(tc.params), Limits{})
		require.NotNil(t, AsReason(err), tc.params)
		require.Equal(t, tc.text, err.Error(), tc.params)
	}
}

func TestDecodeBoundsTheNumberOfValues(t *testing.T) {
	var members, pairs strings.Builder
	for i := range maxValues + 1 {
		fmt.Fprintf(&members, `,"%x":0`, i)
		pairs.WriteString(",{}")
	}
	for _, params := range []string{
		`[{"txs":["01"]` + members.String() + `}]`,
		`[{"txs":["01"],"x":{"y":0` + members.String() + `}}]`,
		`[{"txs":["01"],"x":[0` + pairs.String() + `]}]`,
	} {
		_, err := Decode(MethodSendBundle, []byte(params), Limits{})
		require.EqualError(t, err, "more than 65536 values")
	}
	_, err := Decode(MethodSendShareBundle, []byte(`[{"body":[{"tx":"01"}],"validity":{"refund":[{}`+pairs.String()+`]}}]`), Limits{})
	require.ErrorContains(t, err, "more than 65536 values")
}

func TestDecodeCanRunConcurrently(t *testing.T) {
	params := []byte(vectorBundle())
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 100 {
				s, err := Decode(MethodSendBundle, params, Limits{})
				if err != nil || len(s.Txs) != 2 || s.Txs[0][0] != 2 {
					t.Error("decoded something else")
				}
			}
		})
	}
	group.Wait()
}
