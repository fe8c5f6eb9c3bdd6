package record

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestACaptureIsWrittenAsItWasRead(t *testing.T) {
	b, err := os.ReadFile("../../eltest/testdata/sample.jsonl")
	require.NoError(t, err)
	var out []byte
	for p, err := range ReadPairs(bytes.NewReader(b)) {
		require.NoError(t, err)
		out, err = p.AppendTo(out)
		require.NoError(t, err)
	}
	require.Equal(t, string(b), string(out))
}

func TestALineThatIsNoneEndsACapture(t *testing.T) {
	text := "{\"seq\":1,\"req\":{}}\n\n{\"seq\":2}"
	var n int
	for _, err := range ReadPairs(strings.NewReader(text)) {
		require.NoError(t, err)
		n++
	}
	require.Equal(t, 2, n)
	var last error
	for _, err := range ReadPairs(strings.NewReader("{\"seq\":1}\nx\n{\"seq\":2}\n")) {
		last = err
	}
	require.ErrorIs(t, last, ErrRecord)
	require.ErrorContains(t, last, "line 2")
	for range ReadPairs(strings.NewReader(text)) {
		break
	}
}

func TestALossIsALineOfItsOwnThatIsNoCall(t *testing.T) {
	want := []Lost{{Reason: "retention", From: 3, To: 9}, {Reason: "parts", What: "request", Epoch: 2, From: 5, To: 5}}
	text := []byte("{\"seq\":1,\"req\":{}}\n")
	for _, l := range want {
		var err error
		text, err = l.AppendTo(text)
		require.NoError(t, err)
	}
	text = append(text, "{\"seq\":2}\n"...)
	var pairs []uint64
	for p, err := range ReadPairs(bytes.NewReader(text)) {
		require.NoError(t, err)
		pairs = append(pairs, p.Seq)
	}
	require.Equal(t, []uint64{1, 2}, pairs)
	var lost []Lost
	for _, err := range ReadCapture(bytes.NewReader(text), func(l Lost) { lost = append(lost, l) }) {
		require.NoError(t, err)
	}
	require.Equal(t, want, lost)
}

func TestWhatIsNoJSONIsWrittenAsText(t *testing.T) {
	line, err := Pair{Seq: 1, Time: time.Unix(0, 0).UTC(), Answer: json.RawMessage("stale token\n")}.AppendTo(nil)
	require.NoError(t, err)
	require.Contains(t, string(line), `"req":null`)
	require.Contains(t, string(line), `"resp":"stale token\n"`)
	require.Equal(t, 1, strings.Count(string(line), "\n"))
}

func FuzzReadPairs(f *testing.F) {
	f.Add([]byte("{\"seq\":1,\"ts\":\"2026-11-20T13:11:50.064414939Z\",\"req\":{\"id\":1},\"resp\":null}\n"))
	f.Add([]byte("\n\nx"))
	f.Add([]byte("{\"lost\":{\"reason\":\"parts\",\"epoch\":2,\"from\":5,\"to\":5}}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for p, err := range ReadPairs(bytes.NewReader(b)) {
			if err == nil {
				_, err = p.AppendTo(nil)
				require.True(t, err == nil || p.Time.Year() > 9999 || p.Time.Year() < 0 || strings.Contains(err.Error(), "Time"))
			}
		}
	})
}
