package signers

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/order"
)

// A hit is SHA-256 plus a lookup; the difference to BenchmarkSHA256 is the cache's own cost.
func BenchmarkHit(b *testing.B) {
	c := newCache(b, Config{Size: 1 << 18, TTL: config().TTL}, &countingRules{}, nil)
	txs := make([][]byte, 10_000)
	for i := range txs {
		txs[i] = binary.BigEndian.AppendUint64(bytes.Repeat([]byte{2}, 400), uint64(i))
		_, err := c.Check(txs[i], order.KindBundle, now)
		require.NoError(b, err)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		if _, err := c.Check(txs[i%len(txs)], order.KindBundle, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSHA256(b *testing.B) {
	raw := bytes.Repeat([]byte{2}, 408)
	b.ReportAllocs()
	for b.Loop() {
		_ = sha256.Sum256(raw)
	}
}

func BenchmarkMiss(b *testing.B) {
	rules, err := order.NewRules(testChain)
	require.NoError(b, err)
	c := newCache(b, sharing(), rules, nowhere)
	raw := transfer(b, 1)
	k := keyOf(raw, order.KindBundle, c.forks.at(now))
	b.ReportAllocs()
	for b.Loop() {
		c.entries.Invalidate(k)
		if _, err := c.Check(raw, order.KindBundle, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReceive(b *testing.B) {
	c := newCache(b, sharing(), &countingRules{}, nowhere)
	records := make([]record, maxRecords)
	for i := range records {
		records[i].key[0] = byte(i)
	}
	var buf []byte
	sequence := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		sequence++
		buf = appendBatch(buf[:0], originID{1}, sequence, records, c.seal)
		c.Receive(buf)
	}
}
