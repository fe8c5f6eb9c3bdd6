package ingress

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/stretchr/testify/require"

	"millrace/internal/order"
)

// instant stores nothing and accepts everything.
type instant struct {
	*bus
	s *Server
}

func (i instant) Publish(_ context.Context, o *order.Order) (order.Receipt, error) {
	i.s.verdict(order.Verdict{Accept: o.Accept, ID: o.ID, Signer: o.Signer})
	return order.Receipt{Sequence: 1}, nil
}

// blank is a response writer without a connection.
type blank struct {
	header http.Header
	status int
}

func (b *blank) Header() http.Header         { return b.header }
func (b *blank) Write(p []byte) (int, error) { return len(p), nil }
func (b *blank) WriteHeader(status int)      { b.status = status }

// published is a bundle of about 7 kB, the published mean: seven transactions.
func published(members string) string {
	txs := make([]string, 30)
	for i := range txs {
		txs[i] = `"` + transaction(2, uint64(i)) + `"`
	}
	return `{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle","params":[{"txs":[` + strings.Join(txs, ",") + `],"blockNumber":"0x10"` + members + `}]}`
}

// BenchmarkDoor is one 7 kB bundle from its headers to its answer, without network and store.
// Each is new, as its replacement nonce is.
func BenchmarkDoor(b *testing.B) {
	bus := newBus()
	s := quiet(b, bus)
	s.ports.Publisher = instant{bus, s}
	body := published(`,"replacementUuid":"` + someUUID + `"`)
	name, value, _ := strings.Cut(signed(b, keyOf(1), body), ": ")
	run(b, s, name, body, func() string { return value })
}

// BenchmarkRepeat is the same bundle again and again: answered without the store.
func BenchmarkRepeat(b *testing.B) {
	bus := newBus()
	s := quiet(b, bus)
	s.ports.Publisher = instant{bus, s}
	body := published("")
	name, value, _ := strings.Cut(signed(b, keyOf(1), body), ": ")
	run(b, s, name, body, func() string { return value })
}

func run(b *testing.B, s *Server, name, body string, value func() string) {
	b.Helper()
	lim := s.policy.Load().Config
	lim.IPRate.Count, lim.IPBytes = 0, 0
	require.NoError(b, s.Reload(lim))
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "/", nil)
	require.NoError(b, err)
	req.RemoteAddr, req.ContentLength = "192.0.2.1:1", int64(len(body))
	w := &blank{header: http.Header{}}
	reader := strings.NewReader(body)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(body)
		req.Body = io.NopCloser(reader)
		req.Header[name] = []string{value()}
		s.serve(w, req)
		if w.status != http.StatusOK {
			b.Fatal(w.status)
		}
	}
}

// BenchmarkRecover is what no door can do without: the signature of the same bundle.
func BenchmarkRecover(b *testing.B) {
	body := []byte(published(""))
	value, err := order.Sign(keyOf(1), body)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := order.RecoverSigner(value, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGateUncontended(b *testing.B) {
	g := newGate(1, 8, 64)
	b.ReportAllocs()
	for b.Loop() {
		if g.tryEnter() {
			g.leave()
		}
	}
}

func BenchmarkDigest(b *testing.B) {
	body := []byte(published(""))
	b.ReportAllocs()
	for b.Loop() {
		_ = crypto.Keccak256Hash(body)
	}
}
