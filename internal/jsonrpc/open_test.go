package jsonrpc

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseOpenTellsANotificationFromACall(t *testing.T) {
	calls, shape, err := ParseOpen(nil, []byte(`[{"jsonrpc":"2.0","method":"a","params":[1]}, {"jsonrpc":"2.0","id":null,"method":"b","x":[{"id":1}]}]`), 2)
	require.Nil(t, err)
	require.Equal(t, ShapeBatch, shape)
	require.Len(t, calls, 2)
	require.Nil(t, calls[0].Err)
	require.Nil(t, calls[0].Request.ID)
	require.Equal(t, "a", calls[0].Request.Method)
	require.Equal(t, `[1]`, string(calls[0].Request.Params))
	require.Nil(t, calls[1].Err)
	require.Equal(t, "null", string(calls[1].Request.ID))
	require.JSONEq(t, `{"jsonrpc":"2.0","id":null,"method":"b","x":[{"id":1}]}`, string(calls[1].Request.Raw))
}

func TestParseOpenReusesWhatItIsGiven(t *testing.T) {
	dst := make([]Call, 3, 8)
	calls, shape, err := ParseOpen(dst, []byte(` {"jsonrpc":"2.0","id":1,"method":"a"} `), 1)
	require.Nil(t, err)
	require.Equal(t, ShapeSingle, shape)
	require.Len(t, calls, 1)
	require.Same(t, &dst[0], &calls[0])
}

func TestParseOpenKeepsTheIDOfAFaultyCall(t *testing.T) {
	for body, id := range map[string]string{
		`{"id":1,"method":"a"}`:                                  `1`,
		`{"jsonrpc":"1.0","id":"x","method":"a"}`:                `"x"`,
		`{"jsonrpc":"2.0","id":1}`:                               `1`,
		`{"jsonrpc":"2.0","id":1,"method":""}`:                   `1`,
		`{"jsonrpc":"2.0","id":1,"method":7}`:                    `1`,
		`{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}`:     `1`,
		`{"jsonrpc":"2.0","id":1,"method":"a","METHOD":"b"}`:     `1`,
		`{"jsonrpc":"2.0","id":1,"method":"a","param\u017f":[]}`: `1`, // ſ folds to s
		`{"jsonrpc":"2.0","id":1,"id":2,"method":"a"}`:           ``,
		`{"jsonrpc":"2.0","id":{},"method":"a"}`:                 ``,
		`{"jsonrpc":"2.0","id":true,"method":"a"}`:               ``,
		`[]`:        ``,
		`7`:         ``,
		`"jsonrpc"`: ``,
		`{"params":[],"jsonrpc":"2.0","ID":1,"method":"a","id":null}`: `null`,
	} {
		calls, _, err := ParseOpen(nil, []byte(body), 5)
		if body == `[]` {
			require.Equal(t, CodeInvalidRequest, err.Code)
			continue
		}
		require.Nil(t, err, body)
		require.Equal(t, CodeInvalidRequest, calls[0].Err.Code, body)
		require.Equal(t, id, string(calls[0].Request.ID), body)
	}
}

func TestParseOpenStopsAtABatchThatIsTooLong(t *testing.T) {
	calls, shape, err := ParseOpen(nil, []byte(`[{"jsonrpc":"2.0","id":1,"method":"a"},{"jsonrpc":"2.0","id":2,"method":"a"},nonsense`), 2)
	require.Nil(t, err)
	require.Equal(t, ShapeTooLong, shape)
	require.Len(t, calls, 2)
}

func TestParseOpenRefusesWhatIsNoJSON(t *testing.T) {
	for _, body := range []string{"", " ", "{", "nul", `{"jsonrpc":"2.0","id":1,"method":"a"}x`, `[{}`, `[{}]]`, `[1 2]`, strings.Repeat("[", 20_000), "{\"a\":\"\xff\"}"} {
		_, _, err := ParseOpen(nil, []byte(body), 5)
		require.NotNil(t, err, body)
		require.Equal(t, CodeParse, err.Code, body)
	}
}

func TestMemberIsAViewOfItsFirstValue(t *testing.T) {
	body := []byte(` {"a":{"error":1}, "error" : {"code":1} ,"error":2}`)
	require.Equal(t, `{"code":1}`, string(Member(body, "error")))
	require.Nil(t, Member(body, "x"))
	require.Nil(t, Member([]byte(`[1]`), "x"))
	require.Nil(t, Member([]byte(`{"x"`), "x"))
	require.Nil(t, Member([]byte(`{"x":`), "x"))
	require.Nil(t, Member(nil, "x"))
}

func FuzzParseOpen(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"method":"a","params":[]}`))
	f.Add([]byte(`[{"jsonrpc":"2.0","method":"a"},{"iD":1},7]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		calls, shape, err := ParseOpen(nil, body, maxBatch)
		if err != nil {
			require.True(t, json.Valid(AppendError(nil, nil, err)))
			return
		}
		require.NotEmpty(t, calls)
		require.LessOrEqual(t, len(calls), maxBatch)
		if shape != ShapeTooLong {
			require.True(t, json.Valid(body))
		}
		for _, c := range calls {
			require.True(t, json.Valid(AppendResult(nil, c.Request.ID, []byte("1"))))
			if c.Err != nil {
				continue
			}
			// Go's own reader, which folds letters and takes the last of several, sees the same call.
			var seen struct {
				ID     json.RawMessage `json:"id"`
				Method string          `json:"method"`
				Params json.RawMessage `json:"params"`
			}
			require.NoError(t, json.Unmarshal(c.Request.Raw, &seen))
			require.Equal(t, c.Request.Method, seen.Method)
			require.Equal(t, string(c.Request.ID), string(seen.ID))
			require.Equal(t, string(c.Request.Params), string(seen.Params))
		}
	})
}

func FuzzMember(f *testing.F) {
	f.Add([]byte(`{"error":{"code":1}}`), "error")
	f.Fuzz(func(t *testing.T, body []byte, name string) {
		if v := Member(body, name); v != nil {
			require.True(t, json.Valid(v))
		}
	})
}

func BenchmarkParseOpen(b *testing.B) {
	body := []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"to":"0x0000000000000000000000000000000000000001"},"latest"]}`)
	var calls []Call
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		calls, _, _ = ParseOpen(calls, body, maxBatch)
	}
}
