package jsonrpc

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const maxBatch = 3

func TestParseReadsARequestAsViews(t *testing.T) {
	body := []byte(" {\"params\" : [1, {\"a\":2}] ,\"jsonrpc\":\"2.0\",\"x\":{\"id\":7},\"id\": 1.50 ,\"method\":\"eth_sendBundle\"}\n")
	calls, batch, err := Parse(body, maxBatch)
	require.Nil(t, err)
	require.False(t, batch)
	require.Len(t, calls, 1)
	r := calls[0].Request
	require.Equal(t, "1.50", string(r.ID))
	require.Equal(t, "eth_sendBundle", r.Method)
	require.Equal(t, `[1, {"a":2}]`, string(r.Params))
	require.Equal(t, strings.TrimSpace(string(body)), string(r.Raw))
	require.Same(t, &body[1], &r.Raw[0])
}

func TestParseEchoesEveryKindOfID(t *testing.T) {
	for _, id := range []string{`1`, `-1`, `1e400`, `"a\u0041\""`, `""`, `null`, `123456789012345678901234567890`} {
		calls, _, err := Parse([]byte(`{"jsonrpc":"2.0","id":`+id+`,"method":"m"}`), maxBatch)
		require.Nil(t, err, id)
		require.Equal(t, id, string(calls[0].Request.ID))
		require.Nil(t, calls[0].Request.Params)
	}
}

// What FlowProxy answers to a faulty envelope, with what was wrong in the data.
func TestParseRefusesAnEnvelopeAsFlowProxyDoes(t *testing.T) {
	for _, tc := range []struct {
		body string
		code int
		data string
	}{
		{``, CodeParse, "body ends too early"},
		{` `, CodeParse, "body ends too early"},
		{`{`, CodeParse, "unexpected EOF after byte 1"},
		{`{}`, CodeParse, "id is missing"},
		{`nul`, CodeParse, "unexpected EOF after byte 3"},
		{`null`, CodeParse, "expected an object"},
		{`"x"`, CodeParse, "expected an object"},
		{`{"jsonrpc":"2.0","method":"m"}`, CodeParse, "id is missing"},
		{`{"jsonrpc":"2.0","method":"m","id":{}}`, CodeParse, "id: expected a string, a number or null"},
		{`{"jsonrpc":"2.0","method":"m","id":[1]}`, CodeParse, "id: expected a string, a number or null"},
		{`{"jsonrpc":"2.0","method":"m","id":true}`, CodeParse, "id: expected a string, a number or null"},
		{`{"method":"m","id":1}`, CodeParse, "jsonrpc is missing"},
		{`{"jsonrpc":"2.0","id":1}`, CodeParse, "method is missing"},
		{`{"jsonrpc":2.0,"method":"m","id":1}`, CodeParse, "jsonrpc: expected a string"},
		{`{"jsonrpc":"2.0","method":null,"id":1}`, CodeParse, "method: expected a string"},
		{`{"jsonrpc":"1.0","method":"m","id":1}`, CodeInvalidRequest, `jsonrpc: expected "2.0"`},
		{`{"jsonrpc":"","method":"m","id":1}`, CodeInvalidRequest, `jsonrpc: expected "2.0"`},
		{`{"jsonrpc":"2.0","method":"m","id":1,"method":"n"}`, CodeParse, `duplicate member "method"`},
		{`{"jsonrpc":"2.0","method":"m","id":1,"i\u0064":1}`, CodeParse, `duplicate member "id"`},
		{`{"jsonrpc":"2.0","method":"m","id":1,"params":[],"params":[]}`, CodeParse, `duplicate member "params"`},
		{`{"jsonrpc":"2.0","method":"m","id":1} {}`, CodeParse, "data after the request"},
		{`{"jsonrpc":"2.0","method":"m","id":1}]`, CodeParse, "data after the request"},
		{"{\"jsonrpc\":\"2.0\",\"method\":\"\xff\",\"id\":1}", CodeParse, "invalid UTF-8 after byte 27"},
		{`[]`, CodeInvalidRequest, "empty batch"},
		{`[1,2,3,4]`, CodeInvalidRequest, "batch of more than 3 requests"},
		{`[1,`, CodeParse, "unexpected EOF after byte 3"},
		{`[1`, CodeParse, "unexpected EOF after byte 2"},
		{`[1] 2`, CodeParse, "data after the request"},
		{strings.Repeat("[", 20_000), CodeParse, "exceeded max depth after byte 10000"},
	} {
		calls, _, err := Parse([]byte(tc.body), maxBatch)
		require.NotNil(t, err, tc.body)
		require.Nil(t, calls)
		require.Equal(t, tc.code, err.Code, tc.body)
		require.Equal(t, tc.data, err.Data, tc.body)
		want := MessageParse
		if tc.code == CodeInvalidRequest {
			want = MessageInvalidRequest
		}
		require.Equal(t, want, err.Message)
	}
}

func TestAFaultyElementLeavesTheRestOfItsBatchAlone(t *testing.T) {
	calls, batch, err := Parse([]byte(`[{"jsonrpc":"2.0","id":1,"method":"a"}, 7 ,{"jsonrpc":"1","id":2,"method":"b"}]`), maxBatch)
	require.Nil(t, err)
	require.True(t, batch)
	require.Len(t, calls, 3)
	require.Equal(t, "a", calls[0].Request.Method)
	require.Nil(t, calls[0].Err)
	require.Equal(t, CodeParse, calls[1].Err.Code)
	require.Equal(t, CodeInvalidRequest, calls[2].Err.Code)
}

func TestBatchesCanBeClosed(t *testing.T) {
	_, batch, err := Parse([]byte(`[{"jsonrpc":"2.0","id":1,"method":"a"}]`), 0)
	require.True(t, batch)
	require.Equal(t, CodeInvalidRequest, err.Code)
}

func TestParseLeavesDuplicatesInParametersToTheMethod(t *testing.T) {
	_, _, err := Parse([]byte(`{"jsonrpc":"2.0","id":1,"method":"a","params":[{"a":1,"a":1}]}`), maxBatch)
	require.Nil(t, err)
}

func TestAppendWritesWhatFlowProxyWrites(t *testing.T) {
	require.JSONEq(t, `{"id":1,"jsonrpc":"2.0","result":{"bundleHash":"0x01"}}`, string(AppendResult(nil, []byte("1"), []byte(`{"bundleHash":"0x01"}`))))
	require.Equal(t, `{"id":null,"jsonrpc":"2.0","result":true}`, string(AppendResult(nil, nil, []byte(`true`)))) //nolint:testifylint // byte for byte
	require.Equal(t, `{"id":"a","jsonrpc":"2.0","error":{"code":-32602,"message":"Invalid params"}}`,             //nolint:testifylint // byte for byte
		string(AppendError(nil, []byte(`"a"`), &Error{Code: CodeInvalidParams, Message: MessageInvalidParams})))
	require.Equal(t, `x{"id":null,"jsonrpc":"2.0","error":{"code":-32602,"message":"a\"\n","data":"<\u0000é`+"\ufffd"+`>"}}`,
		string(AppendError([]byte("x"), nil, &Error{Code: CodeInvalidParams, Message: "a\"\n", Data: "<\x00é\xff>"})))
}

func TestMethodNotFoundRepeatsABoundedName(t *testing.T) {
	require.Equal(t, "Method not found: eth_x", MethodNotFound("eth_x").Message)
	require.Less(t, len(MethodNotFound(strings.Repeat("é", 1000)).Message), 100)
}

func TestErrorTextHasItsData(t *testing.T) {
	require.EqualError(t, &Error{Message: "a"}, "a")
	require.EqualError(t, &Error{Message: "a", Data: "b"}, "a: b")
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"a","params":[]}`))
	f.Add([]byte(`[{"jsonrpc":"2.0","id":"x","method":"a"},{},7]`))
	f.Add([]byte(`{"i\u0064":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		calls, _, err := Parse(body, maxBatch)
		if err != nil {
			require.Empty(t, calls)
			require.True(t, json.Valid(AppendError(nil, nil, err)))
			return
		}
		require.NotEmpty(t, calls)
		require.LessOrEqual(t, len(calls), maxBatch)
		require.True(t, json.Valid(body))
		for _, c := range calls {
			if c.Err != nil {
				continue
			}
			require.True(t, json.Valid(c.Request.Raw))
			require.True(t, json.Valid(AppendResult(nil, c.Request.ID, []byte("1"))))
			require.True(t, json.Valid(AppendError(nil, c.Request.ID, MethodNotFound(c.Request.Method))))
			again, _, err := Parse(c.Request.Raw, 0)
			require.Nil(t, err)
			require.Equal(t, c.Request.Method, again[0].Request.Method)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	body := []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle","params":[{"txs":["0x` + strings.Repeat("0f", 3500) + `"],"blockNumber":"0x1"}]}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = Parse(body, maxBatch)
	}
}
