package cache

import (
	"context"
	"strings"
	"testing"

	"millrace/internal/rpcapi"
)

const benchParams = `[{"to":"0x0000000000000000000000000000000000000001","data":"0x70a082310000000000000000000000000000000000000000000000000000000000000001"},"latest"]`

func benchmark(b *testing.B, cfg Config, between func(x *fixture)) {
	b.Helper()
	x := newFixture(b, cfg)
	m := rpcapi.Lookup("eth_call")
	call := &rpcapi.Call{Class: rpcapi.Low, Method: m.Name}
	params, id := []byte(benchParams), []byte("17")
	a := &rpcapi.Answer{Status: 200, Body: []byte(`{"jsonrpc":"2.0","id":1,"result":"0x` + strings.Repeat("0", 64) + `"}`)}
	fetch := func(context.Context) (*rpcapi.Answer, error) { return a, nil }
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		between(x)
		if _, _, err := x.Do(ctx, call, m, params, id, fetch); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHit(b *testing.B) { benchmark(b, everything(), func(*fixture) {}) }

func BenchmarkMiss(b *testing.B) { benchmark(b, everything(), (*fixture).clear) }

func BenchmarkMissCoalescing(b *testing.B) {
	cfg := everything()
	cfg.Coalesce = true
	benchmark(b, cfg, (*fixture).clear)
}

func BenchmarkOnlyCoalescing(b *testing.B) { benchmark(b, Config{Coalesce: true}, func(*fixture) {}) }

func BenchmarkOff(b *testing.B) { benchmark(b, Config{}, func(*fixture) {}) }

// clear makes the next call a miss.
func (x *fixture) clear() { x.chain.head.Hash[31]++ }
