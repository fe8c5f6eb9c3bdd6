package signers

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/order"
)

func FuzzDecodeBatch(f *testing.F) {
	raw := []byte("x")
	good := told(1, 1, raw, truth(raw))
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(good[:headSize+macSize])
	f.Add([]byte{batchVersion})
	f.Add([]byte{batchVersion + 1, 2, 3})
	f.Add([]byte{})
	seal := newSealer([]byte(testSecret), testChain)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeBatch(b)
		if err != nil {
			return
		}
		var records []record
		got.each(func(r record) { records = append(records, r) })
		require.NotEmpty(t, records)
		require.LessOrEqual(t, len(records), maxRecords)
		again := appendBatch(nil, got.origin, got.sequence, records, seal)
		require.Equal(t, got.signed, again[:len(again)-macSize])
		require.Equal(t, seal.genuine(&got), string(again) == string(b), "genuine exactly when sealed with the secret")
	})
}

// FuzzReceive: nothing but a sealed batch is ever learned from.
func FuzzReceive(f *testing.F) {
	raw := []byte("x")
	good := told(1, 1, raw, truth(raw))
	f.Add(good, 0)
	f.Add(good, len(good)-1)
	f.Fuzz(func(t *testing.T, b []byte, flip int) {
		if flip >= 0 && flip < len(b) {
			b[flip] ^= 0x80
		}
		if string(b) == string(good) {
			return
		}
		c := newCache(t, sharing(), &countingRules{}, nowhere)
		c.Receive(b)
		require.Zero(t, c.entries.EstimatedSize())
		tx, err := c.Check(raw, order.KindBundle, now)
		require.NoError(t, err)
		require.Equal(t, truth(raw), tx)
	})
}
