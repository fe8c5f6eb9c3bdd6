package bus

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

func TestAnAckIsReadInEveryFormTheServerHas(t *testing.T) {
	for _, c := range []struct {
		text string
		want pubAck
	}{
		{`{"stream":"OK_HIGH","seq":123}`, pubAck{Sequence: 123}},
		{`{"stream":"IN_LOW","seq":18446744073709551615}`, pubAck{Sequence: 1<<64 - 1}},
		{`{"stream":"IN_LOW","seq":7,"duplicate": true}`, pubAck{Stream: "IN_LOW", Sequence: 7, Duplicate: true}},
		{`{"stream":"IN_LOW","domain":"hub","seq":7}`, pubAck{Stream: "IN_LOW", Sequence: 7}},
		{`{"seq":7,"stream":"IN_LOW"}`, pubAck{Stream: "IN_LOW", Sequence: 7}},
	} {
		got, err := parseAck([]byte(c.text))
		require.NoError(t, err, c.text)
		require.Equal(t, c.want, got, c.text)
	}
	for _, text := range []string{``, `{}`, `null`, `{"stream":"","seq":1}`, `{"stream":"A","seq":-1}`, `{"stream":"A","seq":1`, `{"stream":"A","seq":184467440737095516160}`, `{"stream":"A","seq":}`, `x`} {
		_, err := parseAck([]byte(text))
		require.ErrorIs(t, err, errBadAck, text)
	}
	_, err := parseAck([]byte(`{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"A","seq":0}`))
	var api *jetstream.APIError
	require.ErrorAs(t, err, &api)
	require.Equal(t, fateFull, judge(err))
}

// FuzzParseAck holds the short way against encoding/json.
func FuzzParseAck(f *testing.F) {
	for _, s := range []string{`{"stream":"OK_HIGH","seq":123}`, `{"stream":"A","seq":01}`, `{"stream":"A\\u0041","seq":1}`, `{"stream":"A","seq":1,"duplicate": true}`, `{"stream":"A","seq":1}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		seq, ok := plainAck(b)
		if !ok {
			return
		}
		var want pubAck
		require.NoError(t, json.Unmarshal(b, &want), "%q", b)
		require.Equal(t, want.Sequence, seq)
		require.NotEmpty(t, want.Stream)
	})
}

func BenchmarkParseAck(b *testing.B) {
	ack := []byte(`{"stream":"OK_MEDIUM","seq":1234567}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseAck(ack); err != nil {
			b.Fatal(err)
		}
	}
}
