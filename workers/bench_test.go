package workers

import (
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/order"
	"millrace/internal/signers"
)

// typicalBundle is about 7 kB of request: six transactions with 500 bytes of data each.
func typicalBundle(b *testing.B) *order.Order {
	b.Helper()
	var txs [][]byte
	for i := range uint64(6) {
		tx := dynamicTx(i)
		tx.Gas, tx.Data = 200_000, make([]byte, 450)
		txs = append(txs, sign(b, "bench", tx))
	}
	o := acceptedBundle(b, txs...)
	require.InDelta(b, 7000, len(o.Body), 1000)
	return o
}

func benchmarkValidate(b *testing.B, rules Rules) {
	b.Helper()
	p := start(b, newStore(), 1, rules)
	o := typicalBundle(b)
	b.SetBytes(int64(len(o.Body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.validateShared(b.Context(), o, func() {}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidateNoneCached(b *testing.B) { benchmarkValidate(b, realRules(b)) }

func BenchmarkValidateAllCached(b *testing.B) {
	c, err := signers.New(cacheConfig(), testChain, realRules(b), nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(b, err)
	benchmarkValidate(b, c)
}

// BenchmarkValidateRulesFree is what is left beside the rules: decoding, identity, the builder body.
func BenchmarkValidateRulesFree(b *testing.B) { benchmarkValidate(b, anything) }

// BenchmarkValidateReadByTheDoor is the same for an order of a door of this process.
func BenchmarkValidateReadByTheDoor(b *testing.B) {
	p := start(b, newStore(), 1, anything)
	o := readByTheDoor(b, typicalBundle(b))
	b.SetBytes(int64(len(o.Body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.validateShared(b.Context(), o, func() {}); err != nil {
			b.Fatal(err)
		}
	}
}
