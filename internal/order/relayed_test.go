package order

import (
	"encoding/json"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"
)

func decodeRelayed(tb testing.TB, m Method, params string) *Submission {
	tb.Helper()
	s, err := DecodeRelayed(m, []byte(params), Limits{})
	require.NoError(tb, err)
	return s
}

// relayedOrder is the order that a receiver makes of s.
func relayedOrder(tb require.TestingT, s *Submission, arrival uint64) *Order {
	o := &Order{
		Method: s.Method, Kind: s.Kind, Signer: s.Relayed.Signer, Replacement: s.Replacement, Nonce: arrival,
		NonceDefaulted: s.Nonce == nil,
	}
	if s.Nonce != nil {
		o.Nonce = *s.Nonce
	}
	var err error
	o.Hash, err = s.PublicHash(o.Nonce)
	require.NoError(tb, err)
	o.ID, o.Key = s.Identify(o.Signer, o.Nonce, o.NonceDefaulted)
	return o
}

// paramsOf are the parameters of a request.
func paramsOf(tb require.TestingT, body string) []byte {
	var request struct{ Params json.RawMessage }
	require.NoError(tb, json.Unmarshal([]byte(body), &request))
	return request.Params
}

// What a builder gets is what a peer gets. There it is the same order, and goes to the builder byte for byte.
func TestARelayedOrderIsTheOrderThatItWas(t *testing.T) {
	const full = `"version":"v2","minTimestamp":1,"maxTimestamp":1730000000,"revertingTxHashes":["0x` + hash22 + `"],"refundPercent":9,` +
		`"refundRecipient":"0x9349365494be4f6205e5d44bdc7ec7dcd134becf","delayedRefund":true,"y":{"z":[1]}`
	for _, tc := range []struct {
		m      Method
		params string
	}{
		{MethodSendBundle, `[{"txs":["0x01"],"blockNumber":"0x1"}]`},
		{MethodSendBundle, `[{"txs":["0x01","02"],"blockNumber":7,"replacementUuid":"` + testUUID + `","x":1,` + full + `}]`},
		{MethodSendBundle, `[{"txs":["0x01"],"uuid":"` + testUUID + `","replacementNonce":12}]`},
		{MethodSendBundle, `[{"txs":[],"replacementUuid":"` + testUUID + `","version":"odd"}]`},
		{MethodCancelBundle, `[{"replacementUuid":"` + testUUID + `"}]`},
		{MethodSendRawTransaction, `["0x01"]`},
		{MethodSendPrivateTransaction, `[{"tx":"0x01","maxBlockNumber":"0x9"}]`},
	} {
		s, err := Decode(tc.m, []byte(tc.params), Limits{})
		require.NoError(t, err, tc.params)
		o := orderOf(t, s, 77)
		if s.Nonce != nil {
			o = orderOf(t, s, *s.Nonce)
		}
		body := builderBody(t, s, o)
		again := decodeRelayed(t, tc.m.Upstream(), string(paramsOf(t, body)))
		got := relayedOrder(t, again, 78)
		if tc.m == MethodCancelBundle { // its form has no nonce
			got.Nonce = o.Nonce
		}
		require.Equal(t, o.Kind, got.Kind, tc.params)
		require.Equal(t, o.Replacement, got.Replacement, tc.params)
		if !o.Replacement.IsZero() {
			require.Equal(t, o.Nonce, got.Nonce, tc.params)
		}
		require.Equal(t, body, builderBody(t, again, got), tc.params)
		if s.Kind == KindTransaction {
			require.Zero(t, got.Signer, "a raw transaction's form does not say who sent it")
			require.Equal(t, o.Hash, got.Hash)
			continue
		}
		require.Equal(t, testSigner, got.Signer, tc.params)
		id, _ := s.Identify(testSigner, o.Nonce, o.NonceDefaulted)
		if tc.m != MethodCancelBundle {
			require.Equal(t, o.Hash, got.Hash, tc.params)
			require.Equal(t, id, got.ID, tc.params)
		}
	}
}

const hash22 = "2222222222222222222222222222222222222222222222222222222222222222"

func TestARelayedShareBundleHasItsMetadata(t *testing.T) {
	const body = `"version":"v0.1","inclusion":{"block":"0x1"},"body":[{"tx":"0x01","canRevert":true}],"replacementUuid":"` + testUUID + `"`
	s := decodeRelayed(t, MethodSendShareBundle, `[{`+body+`,"metadata":{"replacementNonce":3,"x":[],"signer":"`+testSigner.Hex()+`"}}]`)
	require.Equal(t, testSigner, s.Relayed.Signer)
	require.Equal(t, uint64(3), *s.Nonce)
	require.Equal(t, KindShareBundle, s.Kind)
	require.JSONEq(t, `{"id":1,"jsonrpc":"2.0","method":"mev_sendBundle","params":[{`+body+`,"metadata":{"signer":"0x9349365494be4f6205e5d44bdc7ec7dcd134becf","replacementNonce":3}}]}`,
		builderBody(t, s, relayedOrder(t, s, 9)))

	s = decodeRelayed(t, MethodSendShareBundle, `[{`+body+`,"metadata":{"cancelled":true}}]`)
	require.Equal(t, KindCancel, s.Kind, "whatever is in it")
	require.JSONEq(t, `{"id":1,"jsonrpc":"2.0","method":"mev_sendBundle","params":[{`+body+`,"metadata":{"cancelled":true}}]}`,
		builderBody(t, s, relayedOrder(t, s, 9)))

	_, err := DecodeRelayed(MethodSendShareBundle, []byte(`[{"inclusion":{"block":"0x1"},"body":[{"tx":"0x01"}],"metadata":{"cancelled":true}}]`), Limits{})
	require.EqualError(t, err, "bundle with no txs")
	_, err = DecodeRelayed(MethodSendShareBundle, []byte(`[{`+body+`,"metadata":{"replacementNonce":-1}}]`), Limits{})
	require.EqualError(t, err, "metadata.replacementNonce: expected an unsigned 64-bit number")
}

// What the first proxy passes on without signer and nonce, our builder gets without them; the nonce that we give it
// for its turn among its peers stays here.
func TestARelayedBundleGetsNeitherSignerNorNonce(t *testing.T) {
	s := decodeRelayed(t, MethodSendBundle, `[{"txs":null,"blockNumber":"0x7d","replacementUuid":"`+testUUID+`","version":"v1"}]`)
	o := relayedOrder(t, s, 1730000000000000)
	require.True(t, o.NonceDefaulted)
	require.JSONEq(t, `{"id":1,"jsonrpc":"2.0","method":"eth_sendBundle","params":[{"txs":null,"blockNumber":"0x7d","replacementUuid":"`+testUUID+`","version":"v1","bundleHash":"`+o.Hash.Hex()+`"}]}`,
		builderBody(t, s, o))
	s = decodeRelayed(t, MethodCancelBundle, `[{"replacementUuid":"`+testUUID+`","signingAddress":null}]`)
	require.JSONEq(t, `{"id":1,"jsonrpc":"2.0","method":"eth_cancelBundle","params":[{"replacementUuid":"`+testUUID+`"}]}`,
		builderBody(t, s, relayedOrder(t, s, 5)))
	s = decodeRelayed(t, MethodSendShareBundle, `[{"inclusion":{"block":"0x1"},"body":[{"tx":"0x01"}]}]`)
	require.JSONEq(t, `{"id":1,"jsonrpc":"2.0","method":"mev_sendBundle","params":[{"inclusion":{"block":"0x1"},"body":[{"tx":"0x01"}],"metadata":{}}]}`,
		builderBody(t, s, relayedOrder(t, s, 5)))
}

func TestRelayedBundlesFollowTheFirstProxysRules(t *testing.T) {
	const h = `["0x` + hash22 + `"]`
	for params, text := range map[string]string{
		`{"blockNumber":"0x7b","version":"v14"}`: "invalid version",
		`{"blockNumber":"0x7b"}`:                 "version field should be set",
		`{"txs":["0x01"]}`:                       "version field should be set",
		`{"txs":["0x01"],"version":""}`:          "version field should be set",
		`{"txs":["0x01"],"version":null}`:        "version field should be set",
		`{"txs":["0x01"],"version":"v2","refundTxHashes":["0x` + hash22 + `","0x` + hash22 + `"]}`:       "no more than one refund tx hash is allowed",
		`{"txs":["0x01"],"version":"v1","droppingTxHashes":` + h + `}`:                                   "dropping tx hashes field should not be set",
		`{"txs":["0x01"],"version":"v1","refundPercent":1}`:                                              "refund percent field should not be set",
		`{"txs":["0x01"],"version":"v1","refundRecipient":"0x9349365494be4f6205e5d44bdc7ec7dcd134becf"}`: "refund recipient field should not be set",
		`{"txs":["0x01"],"version":"v1","refundTxHashes":` + h + `}`:                                     "refund tx hashes field should not be set",
		`{"txs":[],"version":"v2"}`:                              "bundle has no transactions and no uuid to cancel",
		`{"txs":["0x01"],"version":"v2","signingAddress":"0x1"}`: "signingAddress: expected a 20-byte hex address",
	} {
		_, err := DecodeRelayed(MethodSendBundle, []byte("["+params+"]"), Limits{})
		require.EqualError(t, err, text, params)
	}
	decodeRelayed(t, MethodSendBundle, `[{"txs":["0x01"],"version":"v1","revertingTxHashes":`+h+`}]`)
}

func TestASubsidyIsForNodesOnly(t *testing.T) {
	m, ok := ParseRelayedMethod("bid_subsidiseBlock")
	require.True(t, ok)
	require.Equal(t, MethodSubsidiseBlock, m)
	_, ok = ParseMethod("bid_subsidiseBlock")
	require.False(t, ok, "the order door does not know it")
	_, ok = ParseRelayedMethod("eth_sendPrivateTransaction")
	require.False(t, ok)
	_, err := Decode(m, []byte(`[1000]`), Limits{})
	require.EqualError(t, err, "method takes no order")

	s := decodeRelayed(t, m, ` [ 1000 ] `)
	require.Equal(t, KindSubsidy, s.Kind)
	require.Equal(t, uint64(1000), s.TargetBlock)
	require.Equal(t, PriorityHigh, Classify(0, s, 100))
	o := relayedOrder(t, s, 0)
	require.JSONEq(t, `{"id":1,"jsonrpc":"2.0","method":"bid_subsidiseBlock","params":[1000]}`, builderBody(t, s, o))
	other := relayedOrder(t, decodeRelayed(t, m, `[1001]`), 0)
	require.NotEqual(t, o.ID, other.ID)
	require.NotEqual(t, o.Key, other.Key)
	require.NotEqual(t, o.Hash, other.Hash)
	for _, bad := range []string{`[]`, `["0x1"]`, `[1,2]`, `[-1]`, `[1.5]`, `[1e3]`, `[null]`} {
		_, err := DecodeRelayed(m, []byte(bad), Limits{})
		require.NotNil(t, AsReason(err), bad)
	}
}

func TestAppendStrictBodyWritesWhatTheFirstProxyReads(t *testing.T) {
	const after = `"signingAddress":"0x9349365494be4f6205e5d44bdc7ec7dcd134becf"`
	for in, out := range map[string]string{
		`{"txs":["0x01"],"blockNumber":"0x1"}`:                    "",
		`{"txs":["0x01"],"blockNumber":null}`:                     "",
		`{"txs":["01",[2,3]],"blockNumber":"0x"}`:                 `{"txs":["0x01","0x0203"],"blockNumber":"0x0",` + after,
		`{"txs":["0x01"],"blockNumber":"0x01"}`:                   `{"txs":["0x01"],"blockNumber":"0x1",` + after,
		`{"txs":["0x01"],"blockNumber":17,"x":{"y":1}}`:           `{"txs":["0x01"],"blockNumber":"0x11","x":{"y":1},` + after,
		`{"uuid":"` + testUUID + `","txs":[]}`:                    `{"txs":[],"replacementUuid":"` + testUUID + `",` + after + `,"replacementNonce":7`,
		`{"txs":["0x01"],"revertingTxHashes":["` + hash22 + `"]}`: `{"txs":["0x01"],"revertingTxHashes":["0x` + hash22 + `"],` + after,
	} {
		s, err := Decode(MethodSendBundle, []byte("["+in+"]"), Limits{})
		require.NoError(t, err, in)
		o := orderOf(t, s, 7)
		require.Equal(t, out == "", s.Strict(), in)
		strict, err := s.AppendStrictBody(nil, o)
		require.NoError(t, err)
		if out == "" {
			require.Equal(t, builderBody(t, s, o), string(strict))
			continue
		}
		require.JSONEq(t, `{"id":1,"jsonrpc":"2.0","method":"eth_sendBundle","params":[`+out+`,"version":"v2","bundleHash":"`+o.Hash.Hex()+`"}]}`, string(strict), in)
	}
}

func FuzzDecodeRelayed(f *testing.F) {
	f.Add(uint8(MethodSendBundle), []byte(vectorBundle()))
	f.Add(uint8(MethodSendBundle), []byte(`[{"txs":[[1,2]],"blockNumber":"0x","uuid":"`+testUUID+`","x":{"y":[1]},"version":"v2","signingAddress":null}]`))
	f.Add(uint8(MethodCancelBundle), []byte(`[{"replacementUuid":"`+testUUID+`","signingAddress":"9349365494be4f6205e5d44bdc7ec7dcd134becf"}]`))
	f.Add(uint8(MethodSendShareBundle), []byte(`[{"body":[{"tx":"0x01"}],"replacementUuid":"`+testUUID+`","metadata":{"signer":null,"replacementNonce":1,"cancelled":true}}]`))
	f.Add(uint8(MethodSendRawTransaction), []byte(`["0x03c4c28080"]`))
	f.Add(uint8(MethodSubsidiseBlock), []byte(`[1000]`))
	f.Fuzz(func(t *testing.T, method uint8, params []byte) {
		s, err := DecodeRelayed(Method(method), params, Limits{MaxTxs: 10})
		if err != nil {
			require.NotNil(t, AsReason(err))
			return
		}
		o := relayedOrder(t, s, 7)
		body := builderBody(t, s, o)
		again, err := DecodeRelayed(s.Method.Upstream(), paramsOf(t, body), Limits{MaxTxs: 10})
		require.NoError(t, err, body)
		next := relayedOrder(t, again, 7)
		require.Equal(t, body, builderBody(t, again, next), "it is as it will stay")
		require.Equal(t, o.Hash, next.Hash)
		require.Equal(t, o.Signer, next.Signer)

		strict, err := s.AppendStrictBody(nil, o)
		require.NoError(t, err)
		plain, err := DecodeRelayed(s.Method.Upstream(), paramsOf(t, string(strict)), Limits{MaxTxs: 10})
		require.NoError(t, err, string(strict))
		require.True(t, s.Method != MethodSendBundle || plain.Strict(), string(strict))
		require.Equal(t, o.Hash, relayedOrder(t, plain, 7).Hash)
	})
}

func TestTheSignerOfARelayedOrderIsTheOneInItsBody(t *testing.T) {
	s := decodeRelayed(t, MethodSendBundle, `[{"txs":["0x01"],"version":"v2","signingAddress":"0x9349365494BE4F6205e5d44bdc7ec7dcd134becf"}]`)
	require.Equal(t, testSigner, s.Relayed.Signer)
	require.Zero(t, decodeRelayed(t, MethodSendBundle, `[{"txs":["0x01"],"version":"v2"}]`).Relayed.Signer)
	sender, err := Decode(MethodSendBundle, []byte(`[{"txs":["0x01"],"signingAddress":"`+common.Address{1}.Hex()+`"}]`), Limits{})
	require.NoError(t, err)
	require.Nil(t, sender.Relayed)
}
