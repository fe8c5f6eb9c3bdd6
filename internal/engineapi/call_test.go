package engineapi

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	hashA = "0x0e4e46e090644ca2d0b7ea2225a4676a19d2e249e34ff19c44f1e9aad899df71"
	hashB = "0x5ecbbbaf8e1d289a1f1bc9b31b03cb4169fb72599f13a3c85a39a467cf0d1ca9"
	hash0 = "0x0000000000000000000000000000000000000000000000000000000000000000"
	state = `{"headBlockHash":"` + hashA + `","safeBlockHash":"` + hashB + `","finalizedBlockHash":"` + hash0 + `"}`
)

func one(t *testing.T, body string) Call {
	t.Helper()
	calls, batch, err := ParseCalls([]byte(body))
	require.NoError(t, err)
	require.False(t, batch)
	require.Len(t, calls, 1)
	return calls[0]
}

func TestACallIsAViewOfItsBody(t *testing.T) {
	body := []byte(" {\"params\" : [1, {\"a\":\"]}\\\"\"}] ,\"x\":{\"id\":7},\"id\": 1.50 ,\"method\":\"engine_newPayloadV4\"}\n")
	calls, batch, err := ParseCalls(body)
	require.NoError(t, err)
	require.False(t, batch)
	c := calls[0]
	require.Equal(t, "1.50", string(c.ID))
	require.Equal(t, "engine_newPayloadV4", c.Method)
	require.Equal(t, `[1, {"a":"]}\""}]`, string(c.Params))
	require.Equal(t, strings.TrimSpace(string(body)), string(c.Raw))
	require.Same(t, &body[1], &c.Raw[0])
	require.Equal(t, 2, c.Arity())
	require.Equal(t, `{"a":"]}\""}`, string(c.Param(1))) //nolint:testifylint // byte for byte
	require.Nil(t, c.Param(2))
}

func TestAnElementThatIsNoRequestLeavesTheBatchAlone(t *testing.T) {
	calls, batch, err := ParseCalls([]byte(`[{"id":1,"method":"eth_syncing"}, 7 ,{"id":2,"method":"engine_getPayloadV1","params":["0x01"]},[],{"a"}]`))
	require.NoError(t, err)
	require.True(t, batch)
	require.Len(t, calls, 5)
	require.Equal(t, "eth_syncing", calls[0].Method)
	require.Equal(t, Call{Raw: []byte("7")}, calls[1])
	require.Equal(t, "0x01", calls[2].PayloadID())
	require.Empty(t, calls[3].Method)
	require.Equal(t, `{"a"}`, string(calls[4].Raw))

	calls, batch, err = ParseCalls([]byte(` [ ] `))
	require.NoError(t, err)
	require.True(t, batch)
	require.Empty(t, calls)
}

func TestWhatIsNoCallIsNone(t *testing.T) {
	for _, body := range []string{
		``, ` `, `{`, `nul`, `null`, `7`, `"x"`, `{}x`, `{} {}`, `[1,`, `[1`, `[1,]`, `[1 2]`, `[1] 2`, `{"a":}`, `{"a"}`,
		`{"a":1,}`, `{a:1}`, `{"a":"`, `{"a":"\"`, `{"a":{`, `{"a":[}`, `{1:2}`, `{"a" 1}`,
	} {
		calls, _, err := ParseCalls([]byte(body))
		require.ErrorIs(t, err, ErrBody, body)
		require.Nil(t, calls)
	}
}

func TestABatchIsBounded(t *testing.T) {
	body := "[" + strings.Repeat("1,", MaxBatch-1) + "1]"
	calls, _, err := ParseCalls([]byte(body))
	require.NoError(t, err)
	require.Len(t, calls, MaxBatch)
	_, batch, err := ParseCalls([]byte("[1," + body[1:]))
	require.ErrorIs(t, err, ErrBatchTooLong)
	require.True(t, batch)
}

// A client's decoder takes the last of repeated members and folds their case: what it executes must
// not differ from what is recorded.
func TestACallThatReadersCouldReadDifferentlyHasNoMethod(t *testing.T) {
	for _, body := range []string{
		`{"id":1,"method":"eth_syncing","method":"engine_newPayloadV1"}`,
		`{"id":1,"method":"eth_syncing","METHOD":"engine_newPayloadV1"}`,
		`{"id":1,"Method":"engine_newPayloadV1"}`,
		`{"id":1,"method":"engine_newPayloadV1","params":[1],"Params":[2]}`,
		`{"id":1,"method":"engine_newPayloadV1","params":[1],"p\u0061rams":[2]}`,
		`{"id":1,"id":2,"method":"engine_newPayloadV1"}`,
		`{"id":1,"method":7}`,
		`{"id":1,"method":"\x"}`,
		`{"id":1,"\x":2,"method":"engine_newPayloadV1"}`,
	} {
		c := one(t, body)
		require.Empty(t, c.Method, body)
		require.Equal(t, ClassRead, c.Class())
		require.NotNil(t, c.ID)
	}
	require.Equal(t, "engine_newPayloadV1", one(t, `{"id":1,"m\u0065thod":"engine_newPay\u006coadV1"}`).Method)
}

func TestOnlyAnArrayIsParameters(t *testing.T) {
	require.Nil(t, one(t, `{"id":1,"method":"eth_call","params":{"a":1}}`).Params)
	require.Nil(t, one(t, `{"id":1,"method":"eth_call","params":null}`).Params)
	require.Zero(t, one(t, `{"id":1,"method":"eth_call"}`).Arity())
	require.Nil(t, one(t, `{"method":"eth_call"}`).ID)
}

// I2: null for the attributes, the arity as it was, every other byte untouched.
func TestInvariant2WithoutAttributesKeepsEverythingElse(t *testing.T) {
	for _, tc := range []struct{ method, params, want string }{
		{"engine_forkchoiceUpdatedV1", `[` + state + `]`, `[` + state + `]`},
		{"engine_forkchoiceUpdatedV3", `[ ` + state + ` , null ]`, `[ ` + state + ` , null ]`},
		{"engine_forkchoiceUpdatedV3", `[ ` + state + ` , {"timestamp":"0x1","withdrawals":[{"a":"]"}]} ]`, `[ ` + state + ` , null ]`},
		{"engine_forkchoiceUpdatedV4", `[` + state + `,{"slotNumber":"0x1"},"0xff00"]`, `[` + state + `,null,"0xff00"]`},
		{"engine_forkchoiceUpdatedV5", `[` + state + `,{},null,{"later":1}]`, `[` + state + `,null,null,{"later":1}]`},
	} {
		head, tail := `{"later":"x","id":"a" ,"method":"`+tc.method+`","params":`, ` , "jsonrpc":"2.0"}`
		body := []byte("[7, " + head + tc.params + tail + " ]")
		before := bytes.Clone(body)
		calls, _, err := ParseCalls(body)
		require.NoError(t, err)
		got, err := calls[1].WithoutAttributes()
		require.NoError(t, err)
		require.Equal(t, head+tc.want+tail, string(got))
		require.Equal(t, before, body)
		f, err := one(t, string(got)).Forkchoice()
		require.NoError(t, err)
		require.False(t, f.Attributes)
		require.Equal(t, calls[1].Arity(), f.Arity)
	}
}

func TestWithoutAttributesOfSomethingElseIsAnError(t *testing.T) {
	for _, body := range []string{
		`{"id":1,"method":"engine_forkchoiceUpdatedV3","params":[]}`,
		`{"id":1,"method":"engine_forkchoiceUpdatedV3"}`,
		`{"id":1,"method":"engine_forkchoiceUpdatedV3","params":{}}`,
		`{"id":1,"method":"engine_forkchoiceUpdatedBySomeoneV3","params":[` + state + `,{}]}`,
		`{"id":1,"method":"engine_newPayloadV3","params":[` + state + `,{}]}`,
		`{"id":1,"method":"engine_forkchoiceUpdatedV3","params":[{"headBlockHash":"` + hashA + `"},{}]}`,
		`{"id":1,"method":"engine_forkchoiceUpdatedV3","params":[` + state[:len(state)-1] + `,"headBlockHash":"` + hashB + `"},{}]}`,
		`{"id":1,"method":"engine_forkchoiceUpdatedV3","params":[` + state[:len(state)-1] + `,"HeadBlockHash":"` + hashB + `"},{}]}`,
		`{"id":1,"method":"engine_forkchoiceUpdatedV3","params":[` + strings.Replace(state, "0e4e", "0x4e", 1) + `,{}]}`,
	} {
		_, err := one(t, body).WithoutAttributes()
		require.ErrorIs(t, err, ErrParams, body)
	}
}

func TestAWitnessIsWishedForByTheMethodAlone(t *testing.T) {
	for _, spelled := range []string{"engine_forkchoiceUpdatedWithWitnessV3", `engine_forkchoiceUpdatedWithWitness\u00563`} {
		c := one(t, `{"id":7, "method" : "`+spelled+`","params":[`+state+`,{"a":1}],"x":"engine_forkchoiceUpdatedWithWitnessV3"}`)
		plain, err := c.Plain()
		require.NoError(t, err)
		require.Equal(t, `{"id":7, "method" : "engine_forkchoiceUpdatedV3","params":[`+state+`,{"a":1}],"x":"engine_forkchoiceUpdatedWithWitnessV3"}`, string(plain.Raw)) //nolint:testifylint // byte for byte
		require.Equal(t, "engine_forkchoiceUpdatedV3", plain.Method)
		bare, err := plain.WithoutAttributes()
		require.NoError(t, err)
		require.Contains(t, string(bare), state+`,null]`)
	}
	c := one(t, `{"id":7,"method":"eth_call"}`)
	plain, err := c.Plain()
	require.NoError(t, err)
	require.Equal(t, c, plain)
}

func TestSplicingLeavesTheRestAlone(t *testing.T) {
	c := one(t, `{"id":1,"method":"engine_getPayloadV4","params":["0x01"],"x":[]}`)
	got, err := c.WithParam(0, []byte(`"0x02"`))
	require.NoError(t, err)
	require.Equal(t, `{"id":1,"method":"engine_getPayloadV4","params":["0x02"],"x":[]}`, string(got)) //nolint:testifylint // byte for byte
	got, err = c.WithID([]byte(`"other"`))
	require.NoError(t, err)
	require.Equal(t, `{"id":"other","method":"engine_getPayloadV4","params":["0x01"],"x":[]}`, string(got)) //nolint:testifylint // byte for byte
	_, err = c.WithParam(1, []byte("null"))
	require.ErrorIs(t, err, ErrParams)
	_, err = one(t, `{"method":"m"}`).WithID([]byte("1"))
	require.ErrorIs(t, err, ErrParams)
	elsewhere := c
	elsewhere.Raw = bytes.Clone(c.Raw[:10])
	_, err = elsewhere.WithParam(0, []byte("null"))
	require.ErrorIs(t, err, ErrParams)
}

func FuzzParseCalls(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"engine_forkchoiceUpdatedV4","params":[` + state + `,{"a":1},null]}`))
	f.Add([]byte(`[{"id":"x","method":"engine_newPayloadV1","params":[{"blockHash":"` + hashA + `"}]},{},7]`))
	f.Add([]byte(`{"i\u0064":null,"\"":"\\\""}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		calls, batch, err := ParseCalls(body)
		if err != nil {
			require.Nil(t, calls)
			if first := bytes.TrimLeft(body, " \t\r\n"); json.Valid(body) && len(first) > 0 && (first[0] == '{' || first[0] == '[') {
				require.ErrorIs(t, err, ErrBatchTooLong, "valid JSON must be read")
			}
			return
		}
		for _, c := range calls {
			sameAsEncodingJSON(t, c)
			if got, err := c.WithoutAttributes(); err == nil {
				require.Equal(t, json.Valid(c.Raw), json.Valid(got) && json.Valid(c.Raw))
				again, _, err := ParseCalls(got)
				require.NoError(t, err)
				require.Equal(t, c.Method, again[0].Method)
				require.Equal(t, c.Arity(), again[0].Arity())
			}
			_, _ = c.Payload()
			_ = c.PayloadID()
		}
		if !batch {
			require.Len(t, calls, 1)
		}
	})
}

// sameAsEncodingJSON compares a view with what a client's decoder sees.
func sameAsEncodingJSON(t *testing.T, c Call) {
	t.Helper()
	var theirs struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
		Params json.RawMessage `json:"params"`
	}
	if !json.Valid(c.Raw) || json.Unmarshal(c.Raw, &theirs) != nil || c.Method == "" {
		return
	}
	require.Equal(t, theirs.Method, c.Method)
	require.Equal(t, string(theirs.ID), string(c.ID))
	if len(theirs.Params) > 0 && theirs.Params[0] == '[' {
		require.Equal(t, string(theirs.Params), string(c.Params))
	}
}
