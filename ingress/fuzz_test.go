package ingress

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"millrace/internal/order"
)

// quiet is a door that serves without listening.
func quiet(tb testing.TB, b *bus) *Server {
	tb.Helper()
	s, err := New(testConfig(), b.ports(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(tb, err)
	cfg := s.policy.Load().Config
	m, err := newMemory(&cfg)
	require.NoError(tb, err)
	tb.Cleanup(m.close)
	s.memory.Store(m)
	b.hear = s.verdict
	return s
}

// FuzzBody sends any bytes as a signed body, plain or compressed: there is one answer, of a known
// status, and nothing stays reserved.
func FuzzBody(f *testing.F) {
	for _, body := range []string{
		"", "{}", "[]", "[{}]", rawTx(1), bundle(1, ""), cancel(someUUID), "[" + rawTx(1) + "," + rawTx(1) + "]",
		`{"jsonrpc":"2.0","id":null,"method":"mev_sendBundle","params":[{"version":"v0.1","inclusion":{"block":"0x1"},"body":[]}]}`,
		`{"jsonrpc":"2.0","id":1,"method":"eth_cancelBundle","params":[{"replacementUuid":"` + someUUID + `"}]}`,
		strings.Repeat("[", 200),
	} {
		f.Add([]byte(body), false)
		f.Add([]byte(body), true)
	}
	b := newBus()
	s := quiet(f, b)
	routes := s.orderRoutes()
	known := map[int]bool{200: true, 400: true, 404: true, 413: true, 429: true, 503: true}
	f.Fuzz(func(t *testing.T, body []byte, compressed bool) {
		b.set(func(b *bus) { b.stored, b.byID = nil, map[order.ID]uint64{} })
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(string(body)))
		name, value, _ := strings.Cut(signed(t, keyOf(1), string(body)), ": ")
		req.Header.Set(name, value)
		if compressed {
			req.Header.Set("Content-Encoding", "gzip")
		}
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, req)
		require.True(t, known[w.Code], w.Code)
		require.NotEmpty(t, w.Body.String())
		require.Zero(t, s.inflight.used())
		require.Empty(t, s.flights.byID)
		require.Zero(t, s.waiters.len())
	})
}

func FuzzBuilderStats(f *testing.F) {
	f.Add(`{"0x` + strings.Repeat("11", 20) + `":{"passed_tob_simulation_total":1}}`)
	f.Add(`{"Unknown":{}}`)
	f.Add(`{"Signer(0x` + strings.Repeat("11", 20) + `)":{"max_block_contribution_pct":1e300}}`)
	s := quiet(f, newBus())
	f.Fuzz(func(_ *testing.T, body string) { _ = s.builderStats(strings.NewReader(body)) })
}

func FuzzForwardedFor(f *testing.F) {
	f.Add("1.1.1.1, 10.0.0.1")
	f.Add("2001:db8::1%eth0,::ffff:1.2.3.4")
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, value string) {
		r := &http.Request{RemoteAddr: "10.0.0.9:1", Header: http.Header{"X-Forwarded-For": {value}}}
		addr := client(r, trusted)
		require.True(t, addr.IsValid())
		require.Empty(t, addr.Zone())
	})
}
