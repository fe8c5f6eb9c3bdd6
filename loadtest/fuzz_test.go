package loadtest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func FuzzReadAnswer(f *testing.F) {
	for _, s := range []string{
		`{"result":null}`, `{"result":"0x` + tagMagicHex + `"}`, `{"result":{"bundleHash":"0x01","receivedTimestampMs":1e300}}`,
		`{"error":{"code":-32602,"message":"Invalid params","data":{"a":1}}}`, `{}`, `[]`, `{"result":`, `{"result":7}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := Result{Status: 200}
		if readAnswer(&r, body) == nil {
			require.NotZero(t, judge(&r))
		}
	})
}

func FuzzScanReceipt(f *testing.F) {
	c, err := NewCorpus(CorpusConfig{Seed: 1})
	require.NoError(f, err)
	for n := range uint64(20) {
		o, err := c.Order(n)
		require.NoError(f, err)
		f.Add(o.Body)
	}
	f.Add([]byte(`"txs""bundleHash"`))
	f.Add([]byte(`"method":"`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := scanReceipt(body)
		require.Equal(t, len(body), r.Size)
	})
}

func FuzzParseUsage(f *testing.F) {
	f.Add([]byte("42 (x) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0"), []byte("VmRSS: 1 kB"))
	f.Fuzz(func(_ *testing.T, stat, status []byte) { _, _ = parseUsage(stat, status) })
}

func FuzzTagRoundTrip(f *testing.F) {
	f.Add(uint64(1), uint16(2), uint64(3))
	f.Fuzz(func(t *testing.T, run uint64, flow uint16, seq uint64) {
		want := Tag{Run: run, Flow: flow, Seq: seq & (1<<48 - 1)}
		o := &Order{Tag: want, Shape: ShapeCancel, Method: ShapeCancel.method()}
		got, ok := FindTag(bundleBody(o, nil))
		require.True(t, ok)
		require.Equal(t, want, got)
	})
}
