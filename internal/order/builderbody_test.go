package order

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var testSigner = common.HexToAddress("0x9349365494be4f6205e5d44bdc7ec7dcd134becf")

// orderOf is the order that a door makes of s under the given effective nonce.
func orderOf(tb require.TestingT, s *Submission, nonce uint64) *Order {
	h, err := s.PublicHash(nonce)
	require.NoError(tb, err)
	return &Order{
		Method: s.Method, Kind: s.Kind, Signer: testSigner, Hash: h, Replacement: s.Replacement, Nonce: nonce,
		NonceDefaulted: s.Nonce == nil,
	}
}

func builderBody(tb require.TestingT, s *Submission, o *Order) string {
	body, err := s.AppendBuilderBody(nil, o)
	require.NoError(tb, err)
	return string(body)
}

func TestAppendBuilderBodySplicesABundle(t *testing.T) {
	signer, hash := `"0x9349365494be4f6205e5d44bdc7ec7dcd134becf"`, func(s *Submission, nonce uint64) string {
		return `"` + publicHash(t, s, nonce).Hex() + `"`
	}
	for _, tc := range []struct {
		name, in, out string
		nonce         uint64
	}{
		{"plain", `{"txs":["0x01"],"blockNumber":"0X0a"}`, `{"txs":["0x01"],"blockNumber":"0X0a","signingAddress":SIGNER,"version":"v2","bundleHash":HASH}`, 0},
		{
			"what the sender may not set", ` { "signingAddress" : {"a":1} , "x":[1, 2],"bundleHash":null,"version":"v1" ,"txs":["0x01"]	} `,
			`{"x":[1, 2],"txs":["0x01"],"signingAddress":SIGNER,"version":"v1","bundleHash":HASH}`, 0,
		},
		{
			"replacement", `{"replacementUuid":"` + testUUID + `","txs":["0x01"]}`,
			`{"replacementUuid":"` + testUUID + `","txs":["0x01"],"signingAddress":SIGNER,"replacementNonce":77,"version":"v2","bundleHash":HASH}`, 77,
		},
		{
			"uuid overrules", `{"replacementUuid":"` + strings.Repeat("a", 32) + `","replacementNonce":77,"uuid":"` + testUUID + `","txs":["0x01"]}`,
			`{"uuid":"` + testUUID + `","txs":["0x01"],"replacementUuid":"` + testUUID + `","signingAddress":SIGNER,"replacementNonce":77,"version":"v2","bundleHash":HASH}`, 77,
		},
		{
			"nonce without uuid is left alone", `{"replacementNonce":77,"txs":["0x01"]}`,
			`{"replacementNonce":77,"txs":["0x01"],"signingAddress":SIGNER,"version":"v2","bundleHash":HASH}`, 0,
		},
		{
			"cancel", `{"uuid":"` + testUUID + `","txs":[],"version":"\u0000\""}`,
			`{"uuid":"` + testUUID + `","txs":[],"replacementUuid":"` + testUUID + `","signingAddress":SIGNER,"replacementNonce":3,"version":"\u0000\"","bundleHash":HASH}`, 3,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := mustDecode(t, MethodSendBundle, "["+tc.in+"]")
			want := strings.NewReplacer("SIGNER", signer, "HASH", hash(s, tc.nonce)).Replace(tc.out)
			require.Equal(t, `{"id":1,"jsonrpc":"2.0","method":"eth_sendBundle","params":[`+want+`]}`, builderBody(t, s, orderOf(t, s, tc.nonce)))
		})
	}
}

func TestAppendBuilderBodyOfOtherMethods(t *testing.T) {
	const signer = `"0x9349365494be4f6205e5d44bdc7ec7dcd134becf"`
	for _, tc := range []struct {
		name       string
		method     Method
		params     string
		shareNonce uint64
		body       string
	}{
		{"lower-case hex is kept", MethodSendRawTransaction, `[ "0x01ab" ]`, 0, `"method":"eth_sendRawTransaction","params":["0x01ab"]`},
		{"other hex is normalised", MethodSendRawTransaction, `["01AB"]`, 0, `"method":"eth_sendRawTransaction","params":["0x01ab"]`},
		{"escapes are normalised", MethodSendRawTransaction, `["0x01\u0061b"]`, 0, `"method":"eth_sendRawTransaction","params":["0x01ab"]`},
		{"byte values become hex", MethodSendRawTransaction, `[[1,171]]`, 0, `"method":"eth_sendRawTransaction","params":["0x01ab"]`},
		{"private", MethodSendPrivateTransaction, `[{"tx":"0x01ab","preferences":{}}]`, 0, `"method":"eth_sendRawTransaction","params":["0x01ab"]`},
		{"private raw", MethodSendPrivateRawTransaction, `["0x01ab",{}]`, 0, `"method":"eth_sendRawTransaction","params":["0x01ab"]`},
		{
			"cancel", MethodCancelBundle, `[{"signingAddress":"0x00","replacementUuid":"` + testUUID + `","x":1}]`, 0,
			`"method":"eth_cancelBundle","params":[{"replacementUuid":"` + testUUID + `","x":1,"signingAddress":` + signer + `}]`,
		},
		{
			"share bundle", MethodSendShareBundle, `[{"body":[{"tx":"0x01"}],"metadata":null}]`, 0,
			`"method":"mev_sendBundle","params":[{"body":[{"tx":"0x01"}],"metadata":{"signer":` + signer + `}}]`,
		},
		{
			"share bundle with a replacement", MethodSendShareBundle, `[{"body":[{"tx":"0x01"}],"replacementUuid":"` + testUUID + `"}]`, 0,
			`"method":"mev_sendBundle","params":[{"body":[{"tx":"0x01"}],"replacementUuid":"` + testUUID + `","metadata":{"signer":` + signer + `,"replacementNonce":9}}]`,
		},
		{
			"v1's counter begins at zero", MethodSendShareBundle, `[{"body":[],"replacementUuid":"` + testUUID + `"}]`, 1,
			`"method":"mev_sendBundle","params":[{"body":[],"replacementUuid":"` + testUUID + `","metadata":{"signer":` + signer + `,"replacementNonce":0,"cancelled":true}}]`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := mustDecode(t, tc.method, tc.params)
			o := orderOf(t, s, 9)
			o.ShareNonce = tc.shareNonce
			require.Equal(t, `{"id":1,"jsonrpc":"2.0",`+tc.body+`}`, builderBody(t, s, o))
		})
	}
}

func TestAppendBuilderBodyRefusesAnotherOrder(t *testing.T) {
	s := mustDecode(t, MethodSendRawTransaction, `["0x01"]`)
	_, err := s.AppendBuilderBody(nil, &Order{Method: MethodSendBundle})
	require.ErrorIs(t, err, ErrOtherOrder)
}

func TestSpliceKeepsEveryUnknownFieldByteForByte(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := generateBundle(t)
		params := "[" + g.json(t) + "]"
		s, err := Decode(MethodSendBundle, []byte(params), Limits{})
		require.NoError(t, err)
		o := orderOf(t, s, g.nonce)
		body := builderBody(t, s, o)
		for _, member := range g.unknown {
			require.Contains(t, body, member)
		}

		var request struct {
			Params []json.RawMessage
		}
		require.NoError(t, json.Unmarshal([]byte(body), &request), body)
		again, err := Decode(MethodSendBundle, append(append([]byte{'['}, request.Params[0]...), ']'), Limits{})
		require.NoError(t, err, body)
		require.Equal(t, s.Txs, again.Txs)
		require.Equal(t, s.Replacement, again.Replacement)
		h, err := again.PublicHash(g.nonce)
		require.NoError(t, err)
		require.Equal(t, o.Hash, h, "the builder computes the hash that it is given")
		id, _ := s.Identify(testSigner, g.nonce, false)
		_, keyAgain := again.Identify(testSigner, g.nonce, false)
		_, key := s.Identify(testSigner, g.nonce, false)
		require.Equal(t, key, keyAgain)
		require.NotEqual(t, id, key)
		if s.Replacement.IsZero() {
			require.Nil(t, again.Nonce)
		} else {
			require.Equal(t, g.nonce, *again.Nonce)
		}
	})
}

func TestAReadingOverACopyIsTheSameReading(t *testing.T) {
	body := []byte(`{"id":1,"params":[{"x":[1, 2],"txs":["0x01"],"uuid":"` + testUUID + `"}],"method":"eth_sendBundle"}`)
	at := bytes.IndexByte(body, '[')
	params := body[at : bytes.LastIndexByte(body, ']')+1]
	s, err := Decode(MethodSendBundle, params, Limits{})
	require.NoError(t, err)
	o := orderOf(t, s, 7)
	want := builderBody(t, s, o)
	copied := bytes.Clone(body)
	over := s.Over(body, copied)
	require.NotNil(t, over)
	clear(body) // its owner uses it again
	require.Equal(t, want, builderBody(t, over, o))
	require.Nil(t, (*Submission)(nil).Over(body, copied))
	require.Nil(t, s.Over(copied, body), "it was read elsewhere")
	require.Nil(t, s.Over(body, copied[1:]))

	share := mustDecode(t, MethodSendShareBundle, `[{"version":"v0.1","inclusion":{"block":"0x1"},"body":[{"tx":"0x01","canRevert":false}]}]`)
	require.Nil(t, share.Over(share.Params, share.Params), "it has other views")
}
