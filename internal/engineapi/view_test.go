package engineapi

import (
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"
)

func TestForkchoiceReadsItsThreeBlocks(t *testing.T) {
	f, err := one(t, `{"id":1,"method":"engine_forkchoiceUpdatedV4","params":[`+state+`,{"a":1},null]}`).Forkchoice()
	require.NoError(t, err)
	require.Equal(t, Forkchoice{Head: common.HexToHash(hashA), Safe: common.HexToHash(hashB), Attributes: true, Arity: 3}, f)
	g := f
	g.Attributes = false
	require.True(t, f.Same(g))
	g.Safe = common.Hash{}
	require.False(t, f.Same(g))
}

func TestAForkchoiceOfOurOwnReadsBack(t *testing.T) {
	for _, arity := range []int{0, 1, 2, 3} {
		want := Forkchoice{Head: common.HexToHash(hashA), Finalized: common.HexToHash(hashB), Arity: arity}
		body := AppendForkchoice(nil, 7, "engine_forkchoiceUpdatedV4", want)
		c := one(t, string(body))
		require.Equal(t, "7", string(c.ID))
		got, err := c.Forkchoice()
		require.NoError(t, err)
		want.Arity = max(arity, 2)
		require.Equal(t, want, got)
	}
}

func TestPayloadReadsWhatABlockIsKnownBy(t *testing.T) {
	payload := `{"parentHash":"` + hashB + `","blockNumber":"0x2","transactions":["0x\"}"],"timestamp":"0x684ee1b8","blockHash":"` + hashA + `"}`
	p, err := one(t, `{"id":1,"method":"engine_newPayloadV4","params":[`+payload+`,[],"`+hash0+`",[]]}`).Payload()
	require.NoError(t, err)
	require.Equal(t, Payload{Hash: common.HexToHash(hashA), Parent: common.HexToHash(hashB), Number: 2, Timestamp: 0x684ee1b8}, p)

	for _, faulty := range []string{
		`null`, `{}`, `7`,
		`{"parentHash":"` + hashB + `","blockNumber":"2","timestamp":"0x1","blockHash":"` + hashA + `"}`,
		`{"parentHash":"` + hashB + `","blockNumber":"0x","timestamp":"0x1","blockHash":"` + hashA + `"}`,
		`{"parentHash":"` + hashB + `","blockNumber":"0x+1","timestamp":"0x1","blockHash":"` + hashA + `"}`,
		`{"parentHash":"` + hashB + `","blockNumber":"0x10000000000000000","timestamp":"0x1","blockHash":"` + hashA + `"}`,
		`{"parentHash":"` + hashB + `","blockNumber":"0x2","timestamp":"0x1","blockHash":"0x01"}`,
		`{"parentHash":"` + hashB + `","blockNumber":"0x2","timestamp":"0x1","blockHash":"` + hashA + `","blockHash":"` + hashB + `"}`,
	} {
		_, err := one(t, `{"id":1,"method":"engine_newPayloadV4","params":[`+faulty+`]}`).Payload()
		require.ErrorIs(t, err, ErrParams, faulty)
	}
	_, err = one(t, `{"id":1,"method":"engine_executeStatelessPayloadV4","params":[`+payload+`]}`).Payload()
	require.ErrorIs(t, err, ErrParams)
}

func TestABuiltPayloadReadsInBothShapes(t *testing.T) {
	payload := `{"parentHash":"` + hashB + `","blockNumber":"0x2","gasUsed":"0x5208","transactions":["0x01","0x02"],"timestamp":"0x1","blockHash":"` + hashA + `"}`
	b, ok := BuiltPayload([]byte(`{"jsonrpc":"2.0","id":1,"result":` + payload + `}`))
	require.True(t, ok)
	require.Equal(t, Built{Hash: common.HexToHash(hashA), Number: 2, GasUsed: 21000, Transactions: 2}, b)
	b, ok = BuiltPayload([]byte(`{"jsonrpc":"2.0","id":1,"result":{"executionPayload":` + payload + `,"blockValue":"0x2a","blobsBundle":{}}}`))
	require.True(t, ok)
	require.Equal(t, uint64(42), b.Value.Uint64())
	for _, none := range []string{``, `{}`, `{"result":null}`, `{"result":{"executionPayload":{}}}`, `{"result":{"executionPayload":null}}`, `{"error":{"code":-38001}}`} {
		_, ok := BuiltPayload([]byte(none))
		require.False(t, ok, none)
	}
}

func FuzzBuiltPayload(f *testing.F) {
	f.Add([]byte(`{"result":{"executionPayload":{"blockHash":"` + hashA + `","blockNumber":"0x1","gasUsed":"0x0","transactions":["0x"]},"blockValue":"0x1"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		b, ok := BuiltPayload(body)
		if ok {
			require.NotEmpty(t, ResultOf(body))
		}
		require.GreaterOrEqual(t, b.Transactions, 0)
	})
}
