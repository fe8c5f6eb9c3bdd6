package peers

import (
	"crypto/tls"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/egress"
	"millrace/egress/post"
	"millrace/internal/order"
)

type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }

// door is a peer's system door; got has what came.
type door struct {
	*httptest.Server
	certificate string

	mu  sync.Mutex
	got []received
}

type received struct {
	header http.Header
	body   []byte
	from   string
	tls    *tls.ConnectionState
}

func openDoor(tb testing.TB, answer func(w http.ResponseWriter, r received)) *door {
	tb.Helper()
	d := new(door)
	d.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c := received{r.Header, body, r.RemoteAddr, r.TLS}
		d.mu.Lock()
		d.got = append(d.got, c)
		d.mu.Unlock()
		answer(w, c)
	}))
	d.Config.ErrorLog = nil
	tb.Cleanup(d.Close)
	d.certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.Certificate().Raw}))
	return d
}

func yes(w http.ResponseWriter, _ received) {
	_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":null}`)
}

func (d *door) target() Target {
	return Target{Name: "alice", URL: d.URL, Certificate: d.certificate, Timeout: 5 * time.Second}
}

func newSender(tb testing.TB, t Target) (*Sender, *post.Signer) {
	tb.Helper()
	key, err := post.NewSigner("")
	require.NoError(tb, err)
	s, err := NewSender(t, NewForms(order.Limits{}), key, wallClock{}, 8)
	require.NoError(tb, err)
	tb.Cleanup(s.CloseIdle)
	return s, key
}

func attempt(tb testing.TB, params string) egress.Attempt {
	tb.Helper()
	body, o := bundle(tb, params)
	o.Body, o.Accept = body, order.NewAcceptID(time.Now())
	return egress.Attempt{Order: o, Number: 1}
}

func TestAPeerGetsASignedRequestOverItsOwnCertificate(t *testing.T) {
	d := openDoor(t, yes)
	s, key := newSender(t, d.target())
	a := attempt(t, `{"txs":["0x01"],"blockNumber":"0x10"}`)
	r := s.Send(t.Context(), a)
	require.Equal(t, egress.Accepted, r.Verdict, r.Text)
	got := d.got[0]
	require.Equal(t, "application/json", got.header.Get("Content-Type"), "the first proxy takes nothing else")
	require.Equal(t, string(a.Order.Body), string(got.body))
	by, err := order.RecoverSigner(got.header.Get("X-Flashbots-Signature"), got.body)
	require.NoError(t, err)
	require.Equal(t, key.Address(), by)
	require.Equal(t, "medium", got.header.Get("X-BuilderNet-Priority"))
	require.NotEmpty(t, got.header.Get("X-BuilderNet-SentAtUs"))
	require.Contains(t, string(got.body), `"version":"v2"`)
}

func TestAPeerThatCantReadABodyGetsAStrictOne(t *testing.T) {
	d := openDoor(t, yes)
	s, key := newSender(t, d.target())
	a := attempt(t, `{"txs":["01"],"blockNumber":16,"uuid":"`+testUUID+`","x":1}`)
	require.Equal(t, egress.Accepted, s.Send(t.Context(), a).Verdict)
	a.Number = 2
	require.Equal(t, egress.Accepted, s.Send(t.Context(), a).Verdict)
	for _, got := range d.got {
		require.JSONEq(t, `{"id":1,"jsonrpc":"2.0","method":"eth_sendBundle","params":[{"txs":["0x01"],"blockNumber":"0x10","replacementUuid":"`+testUUID+
			`","x":1,"signingAddress":"`+strings.ToLower(signer.Hex())+`","replacementNonce":42,"version":"v2","bundleHash":"`+a.Order.Hash.Hex()+`"}]}`, string(got.body))
		by, err := order.RecoverSigner(got.header.Get("X-Flashbots-Signature"), got.body)
		require.NoError(t, err)
		require.Equal(t, key.Address(), by)
	}
	require.Contains(t, string(a.Order.Body), `"uuid"`, "a builder still gets the sender's own")

	a.Order.Accept, a.Order.Body = order.AcceptID{1}, []byte(`{"id":1,"jsonrpc":"2.0","method":"eth_new","params":[]}`)
	require.Equal(t, egress.Accepted, s.Send(t.Context(), a).Verdict)
	require.Equal(t, string(a.Order.Body), string(d.got[2].body), "what is no order here may be one there")
}

func TestFormsAreBounded(t *testing.T) {
	f := NewForms(order.Limits{})
	for i := range 2 * formOrders {
		f.keep(order.AcceptID{byte(i), byte(i >> 8)}, nil)
	}
	require.Len(t, f.known, formOrders)
	for i := range 3 {
		f.keep(order.AcceptID{0, 0, byte(i + 1)}, make([]byte, formBytes/2))
	}
	require.LessOrEqual(t, f.bytes, formBytes)
	require.Len(t, f.ring, len(f.known))
}

func TestWhatPeersAnswer(t *testing.T) {
	for _, tc := range []struct {
		status int
		body   string
		want   egress.Verdict
	}{
		{200, `{"jsonrpc":"2.0","id":1,"result":null}`, egress.Accepted},
		{200, `{"jsonrpc":"2.0","id":1,"result":{"bundleHash":"0x01"}}`, egress.Accepted},
		{200, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"invalid version"}}`, egress.Rejected},
		{200, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"method not found"}}`, egress.Rejected},
		{200, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"request body is too big, max size: 1"}}`, egress.Rejected},
		// It does not know us yet; it will, when it asks its hub again.
		{200, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"unknown peers can't send to the system address"}}`, egress.Busy},
		{200, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"unknown peers can't send to the public address"}}`, egress.Busy},
		{400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"Invalid signature"}}`, egress.Busy},
		{400, `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"Invalid params"}}`, egress.Rejected},
		{404, `{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"Method not found: mev_sendBundle"}}`, egress.Rejected},
		{429, `{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"Rate limited"}}`, egress.Busy},
		{503, `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"Disk full"}}`, egress.Busy},
		{502, `bad gateway`, egress.Busy},
	} {
		d := openDoor(t, func(w http.ResponseWriter, _ received) {
			w.WriteHeader(tc.status)
			_, _ = io.WriteString(w, tc.body)
		})
		s, _ := newSender(t, d.target())
		r := s.Send(t.Context(), attempt(t, `{"txs":["0x01"]}`))
		require.Equal(t, tc.want, r.Verdict, tc.body)
	}
}

func TestAPeerIsItsCertificate(t *testing.T) {
	d, other := openDoor(t, yes), openDoor(t, yes)
	for name, change := range map[string]func(*Target){
		"system's authorities": func(to *Target) { to.Certificate = "" },
		"another name":         func(to *Target) { to.DNSName = "peer.invalid" },
		"nobody there":         func(to *Target) { other.Close(); to.URL = other.URL },
	} {
		to := d.target()
		change(&to)
		s, _ := newSender(t, to)
		r := s.Send(t.Context(), attempt(t, `{"txs":["0x01"]}`))
		require.Equal(t, egress.Unreachable, r.Verdict, name)
	}
	require.Empty(t, d.got)
	to := d.target()
	to.DNSName = "example.com" // a name of httptest's certificate
	s, _ := newSender(t, to)
	require.Equal(t, egress.Accepted, s.Send(t.Context(), attempt(t, `{"txs":["0x01"]}`)).Verdict)
	require.Equal(t, "example.com", d.got[0].tls.ServerName)
}

// A large order takes long on a far link. No small one waits for its connection.
func TestLargeOrdersHaveConnectionsOfTheirOwn(t *testing.T) {
	release := make(chan struct{})
	d := openDoor(t, func(w http.ResponseWriter, r received) {
		if len(r.body) >= large {
			<-release
		}
		yes(w, r)
	})
	s, _ := newSender(t, d.target())
	big := `{"txs":["0x01"],"x":"` + strings.Repeat("0", large) + `"}`
	var all sync.WaitGroup
	results := make(chan egress.Result, 16)
	for range 16 { // more than there are connections for
		a := attempt(t, big)
		all.Go(func() { results <- s.Send(t.Context(), a) })
	}
	for range 4 {
		require.Equal(t, egress.Accepted, s.Send(t.Context(), attempt(t, `{"txs":["0x01"]}`)).Verdict)
	}
	close(release)
	all.Wait()
	close(results)
	for r := range results {
		require.Equal(t, egress.Accepted, r.Verdict, r.Text)
	}
	from := map[bool]map[string]bool{true: {}, false: {}}
	for _, r := range d.got {
		from[len(r.body) >= large][r.from] = true
	}
	require.Len(t, from[false], 1, "one after the other")
	require.LessOrEqual(t, len(from[true]), 8/largeShare+4)
	for c := range from[false] {
		require.NotContains(t, from[true], c)
	}
}

func TestAPeerIsOwedLocalOrdersOnly(t *testing.T) {
	d := openDoor(t, yes)
	key, err := post.NewSigner("")
	require.NoError(t, err)
	good := d.target()
	ds, err := Destinations([]Target{
		{Name: "no name", URL: d.URL},
		good,
		{Name: "plain", URL: "http://127.0.0.1:1"},
		{Name: "pem", URL: d.URL, Certificate: "x"},
		{Name: "slow", URL: d.URL, Timeout: time.Hour},
	}, NewForms(order.Limits{}), key, wallClock{}, 8)
	require.ErrorIs(t, err, ErrConfig)
	for _, text := range []string{`"no name"`, `"plain"`, `"pem"`, `"slow"`} {
		require.ErrorContains(t, err, text)
	}
	require.Len(t, ds, 1, "one peer's fault is not another's")
	require.Equal(t, "alice", ds[0].Name)
	require.Equal(t, order.ScopeLocal, ds[0].Scope)
	require.Equal(t, good.Fingerprint(), ds[0].Fingerprint)
}

func TestRule17APeerIsTheSameWhereverItMoves(t *testing.T) {
	a := Target{Name: "a", URL: "https://10.0.0.1:5544", Identity: "0xAB"}
	b := Target{Name: "a", URL: "https://10.0.0.2:5544", Identity: "0xab", Certificate: "new"}
	require.Equal(t, a.Fingerprint(), b.Fingerprint())
	a.Identity, b.Identity = "", ""
	require.NotEqual(t, a.Fingerprint(), b.Fingerprint())
	b.URL = "https://user:secret@10.0.0.1:5544/?key"
	require.Equal(t, a.Fingerprint(), b.Fingerprint(), "a new password is no other peer")
}

func BenchmarkForms(b *testing.B) {
	f := NewForms(order.Limits{})
	a := attempt(b, `{"txs":["0x`+strings.Repeat("01", 3500)+`"],"blockNumber":"0x10"}`)
	b.SetBytes(int64(len(a.Order.Body)))
	b.ReportAllocs()
	for b.Loop() {
		if f.make(a.Order) != nil {
			b.Fatal("it is strict")
		}
	}
}
