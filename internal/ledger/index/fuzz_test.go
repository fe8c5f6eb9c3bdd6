package index

import (
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"millrace/internal/ledger"
	"millrace/internal/order"
)

// someAccept is an acceptance of a door: its time fits a time.Time.
func someAccept(b []byte) (a order.AcceptID) {
	copy(a[:], b)
	a[0] = 0
	return a
}

func FuzzDecodeFacts(f *testing.F) {
	o := newPipeline().accept(1)
	full := factsOf(o)
	full.replacement, full.nonce, full.origin, full.txs, full.validated = order.UUID{1}, 7, "peer", 3, true
	same := factsOf(o)
	same.hash = common.Hash(same.id)
	for _, x := range []facts{full, same, {}} {
		f.Add(x.appendTo(nil, o.Accept), o.Accept[:])
	}
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, b, accept []byte) {
		a := someAccept(accept)
		x, err := decodeFacts(b, a)
		if err != nil {
			require.ErrorIs(t, err, ErrEntry)
			return
		}
		again, err := decodeFacts(x.appendTo(nil, a), a)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(x, again, cmp.AllowUnexported(facts{})))
	})
}

func FuzzDecodeEnd(f *testing.F) {
	o := newPipeline().accept(1)
	e := delivered(o, 1)
	e.Of, e.Ambiguous, e.Repeat, e.RPCCode, e.Text = order.AcceptID{1}, true, true, -32000, "grüße"
	for _, x := range []End{endOf("a", &e, testNow), endOf("a", &ledger.Entry{}, testNow), {}} {
		f.Add(x.appendTo(nil, o.Accept), o.Accept[:])
	}
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, b, accept []byte) {
		a := someAccept(accept)
		x, err := decodeEnd(b, a, "a")
		if err != nil {
			require.ErrorIs(t, err, ErrEntry)
			return
		}
		again, err := decodeEnd(x.appendTo(nil, a), a, "a")
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(x, again))
	})
}

func FuzzDecodePlaces(f *testing.F) {
	var p places
	f.Add(p.encode())
	p.at[order.LogDone] = order.Place{Epoch: -1, Sequence: 1 << 60}
	p.since[order.LogLow] = 7
	f.Add(p.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePlaces(b)
		if err != nil {
			require.ErrorIs(t, err, ErrEntry)
			return
		}
		again, err := decodePlaces(p.encode())
		require.NoError(t, err)
		require.Equal(t, p, again)
	})
}

func FuzzParseQuery(f *testing.F) {
	f.Add("0xab")
	f.Add("5f3b8c1e-7a94-4a6c-9f0d-2b1c3d4e5f60")
	f.Add(common.Hash{1}.Hex())
	f.Fuzz(func(t *testing.T, s string) {
		q, err := ParseQuery(s)
		if err != nil {
			require.ErrorIs(t, err, ErrQuery)
			return
		}
		again, err := ParseQuery(q.String())
		require.NoError(t, err)
		require.Equal(t, q, again)
	})
}
