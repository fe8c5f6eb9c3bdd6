package order

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/core/types"
	"github.com/stretchr/testify/require"
)

func FuzzDecode(f *testing.F) {
	f.Add(uint8(MethodSendBundle), []byte(vectorBundle()))
	f.Add(uint8(MethodSendBundle), []byte(`[{"txs":[[1,2]],"blockNumber":"0x","uuid":null,"x":{"y":[1]}}]`))
	f.Add(uint8(MethodSendBundle), []byte(`[{"txs":["0\u00780\u0031"],"version":"v1"}] `))
	f.Add(uint8(MethodSendRawTransaction), []byte(`["0x03c4c28080"]`))
	f.Add(uint8(MethodCancelBundle), []byte(`[{"replacementUuid":"`+testUUID+`"}]`))
	f.Add(uint8(MethodSendShareBundle), []byte(`[{"version":"v0.1","inclusion":{"block":"0x1"},"body":[{"tx":"0x01","canRevert":true},{"bundle":{"body":[{"tx":"02"}]}}],"validity":{"refund":[{"bodyIdx":0,"percent":9}]},"privacy":{}}]`))
	f.Add(uint8(MethodSendPrivateTransaction), []byte(`[{"tx":"0x01","maxBlockNumber":"0x1","preferences":{}}]`))
	f.Add(uint8(MethodSendPrivateRawTransaction), []byte(`["0x01",null]`))
	f.Add(uint8(MethodSendBundle), []byte(strings.Repeat("[", 200)))
	f.Fuzz(func(t *testing.T, method uint8, params []byte) {
		before := bytes.Clone(params)
		s, err := Decode(Method(method), params, Limits{MaxTxs: 10})
		require.Equal(t, before, params, "the input is a view")
		if err != nil {
			require.NotNil(t, AsReason(err))
			require.NotEmpty(t, err.Error())
			return
		}
		require.LessOrEqual(t, len(s.Txs), 10)
		nonce := uint64(7)
		if s.Nonce != nil {
			nonce = *s.Nonce
		}
		o := orderOf(t, s, nonce)
		s.HasBlob()
		s.AllReverting()
		Classify(0, s, len(params))
		body := builderBody(t, s, o)
		require.True(t, json.Valid([]byte(body)), body)

		// What a builder is given decodes to the same order.
		var request struct {
			Params json.RawMessage
		}
		require.NoError(t, json.Unmarshal([]byte(body), &request))
		if s.share != nil {
			return // its metadata is not a sender's
		}
		again, err := Decode(s.Method.Upstream(), request.Params, Limits{MaxTxs: 10})
		require.NoError(t, err, body)
		require.Equal(t, o.Hash, orderOf(t, again, nonce).Hash)
	})
}

func FuzzRecoverSigner(f *testing.F) {
	f.Add("0x4bE0Cd2553356b4ABb8b6a1882325dAbC8d3013D:0xbf36915334f8fa93894cd54d491c31a89dbf917e9a4402b2779b73d21ecf46e36ff07db2bef6d10e92c99a02c1c5ea700b0b674dfa5d3ce9220822a7ebcc17101b", []byte("Hello"))
	f.Add(":", []byte{})
	f.Fuzz(func(t *testing.T, header string, body []byte) {
		signer, err := RecoverSigner(header, body)
		if err == nil {
			claimed, ok := ClaimedSigner(header)
			require.True(t, ok)
			require.Equal(t, claimed, signer)
		}
	})
}

func FuzzCheck(f *testing.F) {
	rules := mainnet(f)
	f.Add(signedTx(f, legacy(f)), uint8(KindBundle))
	f.Add(signedTx(f, dynamicFee(f)), uint8(KindTransaction))
	f.Add(signedTx(f, setCode(f)), uint8(KindBundle))
	bare, _ := blobTx(f, 0, 1)
	f.Add(bare, uint8(KindTransaction))
	f.Fuzz(func(t *testing.T, raw []byte, kind uint8) {
		info, err := rules.Check(raw, Kind(kind), testNow)
		hash := TransactionHash(raw)
		if err != nil {
			require.NotNil(t, AsReason(err))
			return
		}
		require.Equal(t, info.Hash, hash)
		tx := new(types.Transaction)
		require.NoError(t, tx.UnmarshalBinary(raw))
	})
}
