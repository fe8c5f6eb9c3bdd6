package replay

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/stretchr/testify/require"

	"millrace/internal/order"
)

// large is an order of the published mean size.
func large(tb testing.TB) order.Delivery {
	tb.Helper()
	return taped(tb, 1, 0, order.MethodSendBundle, `[{"txs":["0x`+strings.Repeat("ab", 3500)+`"],"blockNumber":"0x10","maxTimestamp":1763672420}]`)
}

// endless is a tape of n copies.
type endless struct {
	d order.Delivery
	n int
}

func (e endless) Record(_ context.Context, _ Range, f func(order.Delivery) error) error {
	for range e.n {
		if err := f(e.d); err != nil {
			return err
		}
	}
	return nil
}

// From the record in memory to a door that answers at once: what the replayer itself costs an order,
// HTTP on both sides included.
func BenchmarkReplay(b *testing.B) {
	d := door(b, "", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"id":1,"jsonrpc":"2.0","result":null}`)
	})
	rec := large(b)
	b.ReportAllocs()
	b.SetBytes(int64(rec.Size))
	b.ResetTimer()
	rep := run(b, Config{}, endless{rec, b.N}, d)
	require.Equal(b, b.N, rep.Accepted)
}

func BenchmarkLine(b *testing.B) {
	d := large(b)
	line := AppendLine(nil, &d)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(d.Size))
		for b.Loop() {
			line = AppendLine(line[:0], &d)
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(d.Size))
		for b.Loop() {
			_, err := ParseLine(line)
			require.NoError(b, err)
		}
	})
}

func BenchmarkPrepare(b *testing.B) {
	key, err := crypto.GenerateKey()
	require.NoError(b, err)
	for name, cfg := range map[string]Config{
		"original": {As: AsIngress},
		"resign":   {As: AsIngress, Key: key},
		"shift":    {As: AsIngress, Key: key, ShiftTime: true},
		"builder":  {As: AsBuilder},
	} {
		b.Run(name, func(b *testing.B) {
			p := preparer{cfg: cfg, rules: lax{}}
			d, now := large(b), time.Now()
			b.ReportAllocs()
			for b.Loop() {
				_, err := p.prepare(d, now)
				require.NoError(b, err)
			}
		})
	}
}
