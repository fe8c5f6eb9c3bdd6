package rpcapi

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnAnswerIsReadAndGetsAnotherID(t *testing.T) {
	answer := []byte("{\"jsonrpc\":\"2.0\", \"id\" : 17 ,\"result\":{\"id\":3}}\n")
	said, ok := ReadAnswer(answer)
	require.True(t, ok)
	require.Equal(t, "17", string(said.ID))
	require.Equal(t, `{"id":3}`, string(said.Result))
	require.Nil(t, said.Failure)
	require.Equal(t, "{\"jsonrpc\":\"2.0\", \"id\" : \"x\" ,\"result\":{\"id\":3}}\n", string(said.WithID(answer, []byte(`"x"`)))) //nolint:testifylint // byte for byte
	said, ok = ReadAnswer([]byte(`{"error":{"code":1},"id":null}`))
	require.True(t, ok)
	require.Equal(t, `{"code":1}`, string(said.Failure))
	said, ok = ReadAnswer([]byte(`{"error":null,"id":1,"result":null}`))
	require.True(t, ok)
	require.Nil(t, said.Failure)
}

func TestWhatIsNoAnswerIsNotReadAsOne(t *testing.T) {
	for _, other := range []string{
		``, `[]`, `{}`, `{"id":1}`, `{"result":1}`, `{"id":1,"result":1}{}`, `{"id":1,"result":1`, `{"id":1,"result":1,}`,
		`{"id":1,"id":2,"result":1}`, `{"id":1,"result":1,"result":2}`, `{"i\u0064":1,"result":1}`, `{"id":1,"error":null}`,
	} {
		_, ok := ReadAnswer([]byte(other))
		require.False(t, ok, other)
	}
}

func FuzzReadAnswer(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"result":"0x1"}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		said, ok := ReadAnswer(answer)
		if !ok {
			return
		}
		require.True(t, json.Valid(answer))
		other := said.WithID(answer, []byte(`"another"`))
		again, ok := ReadAnswer(other)
		require.True(t, ok)
		require.Equal(t, `"another"`, string(again.ID))
		require.Equal(t, said.Result, again.Result)
		require.Equal(t, said.Failure, again.Failure)
	})
}
