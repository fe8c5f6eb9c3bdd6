package order

import (
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const testUUID = "550e8400-e29b-41d4-a716-446655440000"

// quoted is n times the byte b as a JSON hex string.
func quoted(b byte, n int) string {
	return `"0x` + strings.Repeat(hex.EncodeToString([]byte{b}), n) + `"`
}

func mustDecode(tb testing.TB, m Method, params string) *Submission {
	tb.Helper()
	s, err := Decode(m, []byte(params), Limits{})
	require.NoError(tb, err, params)
	return s
}

func publicHash(tb testing.TB, s *Submission, nonce uint64) common.Hash {
	tb.Helper()
	h, err := s.PublicHash(nonce)
	require.NoError(tb, err)
	return h
}

// vectorBundle has every field that the bundle hash covers.
func vectorBundle() string {
	counted := make([]byte, 100)
	for i := range counted {
		counted[i] = byte(i)
	}
	return `[{"blockNumber":"0x3e8","txs":["0x02f862","0x` + hex.EncodeToString(counted) + `"],` +
		`"revertingTxHashes":[` + quoted(0x11, 32) + `],"droppingTxHashes":[` + quoted(0x22, 32) + `,` + quoted(0x33, 32) + `],` +
		`"uuid":"` + testUUID + `","replacementNonce":8976,"refundPercent":90,"refundRecipient":` + quoted(0x44, 20) + `,` +
		`"refundTxHashes":[` + quoted(0x55, 32) + `],"refundIdentity":` + quoted(0x66, 20) + `,"version":"v2",` +
		`"minTimestamp":1,"maxTimestamp":1730000000,"delayedRefund":true,"signingAddress":` + quoted(9, 20) + `}]`
}

func TestPublicHashKeepsFlowProxysVectors(t *testing.T) {
	s := mustDecode(t, MethodSendBundle, vectorBundle())
	require.Equal(t, "0x434a202782cf2596878d8d4fbcda37234ae2b8d30a0a9e81613e86f19a6767a2", publicHash(t, s, *s.Nonce).Hex())

	empty := &bundle{version: versionV2}
	require.Equal(t, "0x58fa6775a781449b759e71e40219a0b7d0489ce8ae7ac1524996e9f21b6e6e6d", empty.hash(nil, 7).Hex())
}

func TestPublicHashDefaultsVersionAndCoversTheEffectiveNonce(t *testing.T) {
	without := mustDecode(t, MethodSendBundle, `[{"txs":["0x01"],"replacementUuid":"`+testUUID+`"}]`)
	explicit := mustDecode(t, MethodSendBundle, `[{"txs":["0x01"],"uuid":"`+testUUID+`","version":"v2","replacementNonce":5}]`)
	require.Equal(t, publicHash(t, explicit, 5), publicHash(t, without, 5))
	require.NotEqual(t, publicHash(t, without, 5), publicHash(t, without, 6))

	v1 := mustDecode(t, MethodSendBundle, `[{"txs":["0x01"],"uuid":"`+testUUID+`","version":"v1"}]`)
	require.NotEqual(t, publicHash(t, v1, 5), publicHash(t, without, 5))

	unreplaced := mustDecode(t, MethodSendBundle, `[{"txs":["0x01"]}]`)
	require.Equal(t, publicHash(t, unreplaced, 5), publicHash(t, unreplaced, 6))
}

func TestPublicHashOfOtherMethodsCoversContentAndNonce(t *testing.T) {
	for _, m := range []struct {
		method Method
		params string
	}{
		{MethodCancelBundle, `[{"replacementUuid":"` + testUUID + `"}]`},
		{MethodSendShareBundle, `[{"replacementUuid":"` + testUUID + `","body":[{"tx":"0x01"}]}]`},
	} {
		s := mustDecode(t, m.method, m.params)
		require.NotEqual(t, publicHash(t, s, 1), publicHash(t, s, 2))
		require.Equal(t, publicHash(t, s, 1), publicHash(t, mustDecode(t, m.method, m.params), 1))
	}
}

// slowWriter collects what Rust's Hash would write, so that slowHash can be told apart from the
// streaming code: it works on the list of writes with big integers.
type slowWriter [][]byte

func (w *slowWriter) number(n uint64) { *w = append(*w, binary.LittleEndian.AppendUint64(nil, n)) }

func (w *slowWriter) slice(b []byte) {
	w.number(uint64(len(b)))
	*w = append(*w, b)
}

func (w *slowWriter) text(s string) { *w = append(*w, []byte(s), []byte{0xff}) }

func slowHash(writes [][]byte) (out common.Hash) {
	p := []string{"a0761d6478bd642f", "e7037ed1a0b428db", "8ebc6af09c88c6e3", "589965cc75374cc3", "1d8e4e27c47d124f", "eb44accab455d165"}
	secret := func(i int) uint64 {
		n, _ := new(big.Int).SetString(p[i], 16)
		return n.Uint64()
	}
	mum := func(a, b uint64) uint64 {
		product := new(big.Int).Mul(new(big.Int).SetUint64(a), new(big.Int).SetUint64(b))
		low := new(big.Int).And(product, new(big.Int).SetUint64(^uint64(0))).Uint64()
		return low ^ new(big.Int).Rsh(product, 64).Uint64()
	}
	// little reads the bytes at the given positions, the first being the lowest.
	pick := func(b []byte, positions ...int) (n uint64) {
		for i, at := range positions {
			n |= uint64(b[at]) << (8 * i)
		}
		return n
	}
	word := func(b []byte) uint64 { return pick(b, 0, 1, 2, 3, 4, 5, 6, 7) }
	swapped := func(b []byte) uint64 { return pick(b, 4, 5, 6, 7, 0, 1, 2, 3) }
	orders := map[int][]int{
		1: {0}, 2: {0, 1}, 3: {2, 0, 1}, 4: {0, 1, 2, 3}, 5: {4, 0, 1, 2, 3}, 6: {4, 5, 0, 1, 2, 3},
		7: {6, 4, 5, 0, 1, 2, 3}, 8: {4, 5, 6, 7, 0, 1, 2, 3},
	}
	// In 6 and 7 single bytes are shifted by 8 each.
	rest := func(b []byte) uint64 {
		switch len(b) {
		case 6:
			return pick(b, 0, 1, 2, 3)<<16 | uint64(b[5])<<8 | uint64(b[4])
		case 7:
			return pick(b, 0, 1, 2, 3)<<24 | uint64(b[5])<<16 | uint64(b[4])<<8 | uint64(b[6])
		default:
			return pick(b, orders[len(b)]...)
		}
	}
	var h, size uint64
	for round := range 4 {
		for _, b := range writes {
			size += uint64(len(b))
			for len(b) >= 32 {
				h = mum(h^secret(0), mum(word(b)^secret(1), word(b[8:])^secret(2))^mum(word(b[16:])^secret(3), word(b[24:])^secret(4)))
				b = b[32:]
			}
			h ^= secret(0)
			if len(b) == 0 {
				continue
			}
			switch (len(b) - 1) / 8 {
			case 0:
				h = mum(h, rest(b)^secret(1))
			case 1:
				h = mum(swapped(b)^h, rest(b[8:])^secret(2))
			case 2:
				h = mum(swapped(b)^h, swapped(b[8:])^secret(2)) ^ mum(h, rest(b[16:])^secret(3))
			case 3:
				h = mum(swapped(b)^h, swapped(b[8:])^secret(2)) ^ mum(swapped(b[16:])^h, rest(b[24:])^secret(4))
			}
		}
		binary.BigEndian.PutUint64(out[8*round:], mum(h, size^secret(5)))
	}
	return out
}

func TestPublicHashEqualsASlowIndependentImplementation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w slowWriter
		g := generateBundle(t)
		if g.block != nil {
			w.number(1)
			w.number(*g.block)
		}
		if len(g.txs) > 0 {
			w.number(uint64(len(g.txs)))
			for _, tx := range g.txs {
				w.slice(tx)
			}
		}
		for _, list := range [][][]byte{g.reverting, g.dropping} {
			if len(list) > 0 {
				w.number(uint64(len(list)))
				for _, h := range list {
					w.slice(h)
				}
			}
		}
		if g.uuid != "" {
			w.text(g.uuid)
			w.number(g.nonce)
		}
		if g.percent != nil {
			w.number(*g.percent)
		}
		if g.recipient != nil {
			w.slice(g.recipient)
		}
		w.text("v2")
		if g.minTimestamp != nil {
			w.number(*g.minTimestamp)
		}
		if g.maxTimestamp != nil {
			w.number(*g.maxTimestamp)
		}
		s, err := Decode(MethodSendBundle, []byte("["+g.json(t)+"]"), Limits{})
		require.NoError(t, err)
		h, err := s.PublicHash(g.nonce)
		require.NoError(t, err)
		require.Equal(t, slowHash(w), h)
	})
}
