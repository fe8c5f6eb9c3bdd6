package rpcapi

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto/kzg4844"
	"github.com/holiman/uint256"
	"github.com/stretchr/testify/require"
)

func TestAFiltersIDNamesItsNode(t *testing.T) {
	id := AppendTag(nil, []byte("0x1f"), 0xabc)
	require.Equal(t, "0x1f00000abc", string(id))
	own, tag, ok := SplitTag(id)
	require.True(t, ok)
	require.Equal(t, "0x1f", string(own))
	require.Equal(t, Tag(0xabc), tag)
	own, _, ok = SplitTag([]byte("0x00000abc"))
	require.True(t, ok)
	require.Equal(t, "0x0", string(own), "a client took the zero for a leading one")
	for _, none := range []string{"", "0x1f", "00000abc", "0x1f00000000", "0x1fzzzzzzzz", "0x1f+0000abc"} {
		_, _, ok := SplitTag([]byte(none))
		require.False(t, ok, none)
	}
}

func TestAnAnswerWithAFilterIsRewrittenInPlace(t *testing.T) {
	got, ok := TagAnswer([]byte("{\"jsonrpc\":\"2.0\", \"id\":1,\"result\" : \"0x1f\" }\n"), 0xabc)
	require.True(t, ok)
	require.Equal(t, "{\"jsonrpc\":\"2.0\", \"id\":1,\"result\" : \"0x1f00000abc\" }\n", string(got)) //nolint:testifylint // byte for byte
	for _, other := range []string{
		`{"id":1,"error":{"code":-32601,"result":"0x1"}}`, `{"id":1,"result":1}`, `{"id":1,"result":""}`,
		`{"id":1,"result":"\u0030x1"}`, `[]`, ``, `{`,
	} {
		got, ok := TagAnswer([]byte(other), 0xabc)
		require.False(t, ok, other)
		require.Equal(t, other, string(got))
	}
}

func TestARequestOnAFilterReachesTheNodeThatHasIt(t *testing.T) {
	request := []byte(`{"jsonrpc":"2.0","id":{"params":1},"method":"eth_getFilterChanges","params":[ "0x1f00000abc" ] }`)
	got, tag, ok := UntagRequest(request)
	require.True(t, ok)
	require.Equal(t, Tag(0xabc), tag)
	require.Equal(t, `{"jsonrpc":"2.0","id":{"params":1},"method":"eth_getFilterChanges","params":[ "0x1f" ] }`, string(got)) //nolint:testifylint // byte for byte
	require.Contains(t, string(request), "00000abc", "the caller's bytes stay as they are")
	for _, other := range []string{
		`{"params":["0x1f"]}`, `{"params":[]}`, `{"params":[7]}`, `{"params":"0x1f00000abc"}`, `{}`, ``, `[]`,
		`{"params":["0x1f0000\u0030abc"]}`,
	} {
		_, _, ok := UntagRequest([]byte(other))
		require.False(t, ok, other)
	}
}

func TestANodeThatHasTheTransactionAlreadyHasSucceeded(t *testing.T) {
	tx := types.NewTx(&types.LegacyTx{Gas: 21000, V: big.NewInt(27), R: big.NewInt(1), S: big.NewInt(1)})
	raw, err := tx.MarshalBinary()
	require.NoError(t, err)
	params := []byte(`["0x` + hex.EncodeToString(raw) + `"]`)
	for _, message := range []string{
		"already known", "AlreadyKnown", "Known transaction", "known transaction: 608f", "ALREADY_EXISTS: already known",
		"INTERNAL_ERROR: existing tx with same hash", "Transaction with the same hash was already imported.",
		"\\u0061lready known",
	} {
		answer := []byte(`{"jsonrpc":"2.0","id":"a\"b","error":{"code":-32000,"message":"` + message + `","data":{}}}`)
		got, ok := NormaliseKnown(answer, params)
		require.True(t, ok, message)
		require.JSONEq(t, `{"jsonrpc":"2.0","id":"a\"b","result":"`+tx.Hash().Hex()+`"}`, string(got))
	}
	for _, other := range []string{
		`{"id":1,"error":{"message":"unknown transaction type"}}`, `{"id":1,"error":{"message":"nonce too low"}}`,
		`{"id":1,"error":{"message":"replacement transaction underpriced"}}`, `{"id":1,"result":"already known"}`,
		`{"id":1,"error":"already known"}`, `{"error":{"message":"already known"}}`, `already known`, ``,
		`[{"id":1,"error":{"message":"already known"}}]`, `{"id":1,"result":1,"error":{"message":"already known"}}`,
	} {
		got, ok := NormaliseKnown([]byte(other), params)
		require.False(t, ok, other)
		require.Equal(t, other, string(got))
	}
	known := []byte(`{"id":1,"error":{"message":"already known"}}`)
	for _, bad := range []string{``, `[]`, `["0x"]`, `["00"]`, `["0xzz"]`, `[7]`, `["0x03"]`, `["0x03c0"]`} {
		_, ok := NormaliseKnown(known, []byte(bad))
		require.False(t, ok, bad)
	}
}

func TestTheHashOfABlobTransactionDoesNotCoverItsBlobs(t *testing.T) {
	blob := &types.BlobTx{
		ChainID: uint256.NewInt(1), BlobHashes: []common.Hash{{1}}, V: uint256.NewInt(1), R: uint256.NewInt(1), S: uint256.NewInt(1),
	}
	bare := types.NewTx(blob)
	blob.Sidecar = types.NewBlobTxSidecar(types.BlobSidecarVersion0, make([]kzg4844.Blob, 1), make([]kzg4844.Commitment, 1), make([]kzg4844.Proof, 1))
	for _, tx := range []*types.Transaction{bare, types.NewTx(blob)} {
		raw, err := tx.MarshalBinary()
		require.NoError(t, err)
		got, ok := NormaliseKnown([]byte(`{"id":1,"error":{"message":"already known"}}`), []byte(`["0x`+hex.EncodeToString(raw)+`"]`))
		require.True(t, ok)
		require.Contains(t, string(got), bare.Hash().Hex())
	}
}

func FuzzSplitTag(f *testing.F) {
	f.Add([]byte("0x1f"), uint32(0xabc))
	f.Fuzz(func(t *testing.T, id []byte, tag uint32) {
		_, _, _ = SplitTag(id)
		if tag == 0 || len(id) == 0 || string(id) == "0x" {
			return
		}
		own, got, ok := SplitTag(AppendTag(nil, id, Tag(tag)))
		require.True(t, ok)
		require.Equal(t, id, own)
		require.Equal(t, Tag(tag), got)
	})
}

func FuzzFilterMessages(f *testing.F) {
	f.Add([]byte(`{"id":1,"result":"0x1f","params":["0x1f00000abc"]}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		before := bytes.Clone(message)
		if tagged, ok := TagAnswer(message, 0xabc); ok && json.Valid(message) {
			require.True(t, json.Valid(tagged))
		}
		if untagged, tag, ok := UntagRequest(message); ok {
			require.NotZero(t, tag)
			require.Less(t, len(untagged), len(message))
			require.Equal(t, json.Valid(message), json.Valid(untagged))
		}
		require.Equal(t, before, message)
	})
}

func FuzzNormaliseKnown(f *testing.F) {
	f.Add([]byte(`{"id":1,"error":{"message":"already known"}}`), []byte(`["0x03c0"]`))
	f.Fuzz(func(t *testing.T, answer, params []byte) {
		if known, ok := NormaliseKnown(answer, params); ok {
			require.True(t, json.Valid(known))
		}
	})
}

func BenchmarkUntagRequest(b *testing.B) {
	request := []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_getFilterChanges","params":["0x` + strings.Repeat("1f", 16) + `00000abc"]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := UntagRequest(request); !ok {
			b.Fatal("no tag")
		}
	}
}

func BenchmarkTagAnswer(b *testing.B) {
	answer := []byte(`{"jsonrpc":"2.0","id":1,"result":"0x` + strings.Repeat("1f", 16) + `"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := TagAnswer(answer, 0xabc); !ok {
			b.Fatal("no id")
		}
	}
}
