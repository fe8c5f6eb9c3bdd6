package order

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/core/types"
	"github.com/stretchr/testify/require"
)

// benchBundle is a bundle of about 7 kB, as the published distribution's mean: four transactions.
func benchBundle(tb testing.TB) []byte {
	tb.Helper()
	var txs []string
	for i := range 4 {
		data := edited(dynamicFee(tb), func(d *types.DynamicFeeTx) {
			d.Data, d.Gas = bytes.Repeat([]byte{1, 2, 3, byte(i)}, 175), 100_000
		})
		txs = append(txs, `"`+hexOf(signedTx(tb, data))+`"`)
	}
	return fmt.Appendf(nil, `[{"txs":[%s],"blockNumber":"0x1312d00","minTimestamp":0,"maxTimestamp":1790000012,`+
		`"revertingTxHashes":[%s],"replacementUuid":"%s","refundPercent":90,"refundRecipient":%s}]`,
		strings.Join(txs, ","), quoted(7, 32), testUUID, quoted(8, 20))
}

func BenchmarkDecode(b *testing.B) {
	params := benchBundle(b)
	b.SetBytes(int64(len(params)))
	b.ReportAllocs()
	for b.Loop() {
		_, err := Decode(MethodSendBundle, params, Limits{})
		require.NoError(b, err)
	}
}

func BenchmarkPublicHash(b *testing.B) {
	s := mustDecode(b, MethodSendBundle, string(benchBundle(b)))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = s.PublicHash(7)
	}
}

func BenchmarkIdentify(b *testing.B) {
	s := mustDecode(b, MethodSendBundle, string(benchBundle(b)))
	b.ReportAllocs()
	for b.Loop() {
		s.Identify(testSigner, 7, true)
	}
}

func BenchmarkAppendBuilderBody(b *testing.B) {
	s := mustDecode(b, MethodSendBundle, string(benchBundle(b)))
	o := orderOf(b, s, 7)
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst, _ = s.AppendBuilderBody(dst[:0], o)
	}
}

func BenchmarkRecoverSigner(b *testing.B) {
	body := benchBundle(b)
	header, err := Sign(testKey(b), body)
	require.NoError(b, err)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = RecoverSigner(header, body)
	}
}

func BenchmarkRulesCheck(b *testing.B) {
	rules := mainnet(b)
	for name, raw := range map[string][]byte{
		"DynamicFee": signedTx(b, edited(dynamicFee(b), func(d *types.DynamicFeeTx) { d.Data, d.Gas = make([]byte, 700), 100_000 })),
		"SetCode":    signedTx(b, setCode(b)),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = rules.Check(raw, KindBundle, testNow)
			}
		})
	}
}

func BenchmarkRulesCheckSidecar(b *testing.B) {
	rules := mainnet(b)
	for version := range byte(2) {
		_, raw := blobTx(b, version, 1)
		b.Run(fmt.Sprintf("v%d", version), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = rules.Check(raw, KindBundle, testNow)
			}
		})
	}
}

func BenchmarkScore(b *testing.B) {
	a := active(100, 3)
	b.ReportAllocs()
	for b.Loop() {
		_ = a.Score(testNow)
	}
}
