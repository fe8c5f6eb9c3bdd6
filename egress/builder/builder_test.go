package builder

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/egress"
	"millrace/egress/post"
	"millrace/internal/order"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }

func anOrder() *order.Order {
	now := time.Now()
	return &order.Order{
		Accept: order.NewAcceptID(now), Priority: order.PriorityHigh, ReceivedAt: now, Deadline: now.Add(time.Minute),
		Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		Body:        []byte(`{"jsonrpc":"2.0","id":1,"method":"eth_sendBundle","params":[{"unknown" :  1.0e3}]}`),
	}
}

func newBuilder(tb testing.TB, url string, busy ...int) *post.Poster {
	tb.Helper()
	s, err := post.NewSigner("")
	require.NoError(tb, err)
	b, err := New(Target{Name: "b", URL: url, Timeout: time.Second}, busy, s, wallClock{}, 8)
	require.NoError(tb, err)
	tb.Cleanup(b.CloseIdle)
	return b
}

func serve(tb testing.TB, h http.HandlerFunc) *httptest.Server {
	tb.Helper()
	s := httptest.NewServer(h)
	tb.Cleanup(s.Close)
	return s
}

func TestConfigReportsEveryFault(t *testing.T) {
	c := Config{Builder: Short{ReadyURL: "http://x"}, Signer: "nonsense", Builders: []Target{
		{Name: "a b", URL: "ftp://x"}, {Name: "c", URL: "http://u:secret@%zz"}, {Name: "c", URL: "http://x", ReadyURL: "x", Timeout: time.Hour},
	}}
	err := c.Validate()
	for _, text := range []string{"builder.ready_url", `"a b"`, "url: not an http", "two are named", "timeout 1h0m0s", "orderflow_signer"} {
		require.ErrorContains(t, err, text)
	}
	require.NotContains(t, err.Error(), "secret")
	require.NoError(t, Config{}.Validate())
	require.Empty(t, Config{}.Targets())
}

func TestShortFormIsABuilderNamedBuilder(t *testing.T) {
	c := Config{Builder: Short{URL: "http://127.0.0.1:1"}, Builders: []Target{{Name: "other", URL: "http://127.0.0.1:2/x"}}}
	s, err := post.NewSigner("")
	require.NoError(t, err)
	ds, err := Destinations(c, s, wallClock{}, 64)
	require.NoError(t, err)
	require.Len(t, ds, 2)
	require.Equal(t, "builder", ds[0].Name)
	require.Equal(t, "other", ds[1].Name)
	require.NotEqual(t, ds[0].Fingerprint, ds[1].Fingerprint)
	_, err = Destinations(Config{Builder: Short{URL: "x"}}, s, wallClock{}, 64)
	require.Error(t, err)
}

func TestRule17FingerprintNamesTheURLWithoutItsSecrets(t *testing.T) {
	f := Fingerprint("https://user:one@Builder:8645/rpc?key=1")
	require.Equal(t, f, Fingerprint("https://user:two@builder:8645/rpc/"))
	require.NotEqual(t, f, Fingerprint("https://builder:8645/other"))
	require.NotEqual(t, f, Fingerprint("http://builder:8645/rpc"))
	require.NotEqual(t, f, Fingerprint("https://builder2:8645/rpc"))
}

func TestReadyTellsWhyABuilderIsNot(t *testing.T) {
	status := make(chan int, 1)
	status <- 503
	var path string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		path = r.URL.Path
		code := <-status
		status <- code
		w.WriteHeader(code)
	})
	r, err := NewReady([]Target{{Name: "a", ReadyURL: s.URL}, {Name: "unchecked"}}, prometheus.NewRegistry())
	require.NoError(t, err)
	require.NoError(t, r.Err())
	c := r.checks[0]
	c.note(t.Context(), r.client)
	require.ErrorIs(t, r.Err(), ErrNotReady)
	require.Equal(t, "/readyz", path)
	<-status
	status <- 200
	c.note(t.Context(), r.client)
	require.NoError(t, r.Err())
	s.Close()
	c.note(t.Context(), r.client)
	require.ErrorIs(t, r.Err(), ErrNotAnswering)

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	cancel()
	require.NoError(t, <-ended)
}

func TestStubCountsWhatItGets(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	stub := NewStub(nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- stub.Serve(ctx, l) }()
	url := "http://" + l.Addr().String()
	b := newBuilder(t, url)
	require.Equal(t, egress.Accepted, b.Send(t.Context(), egress.Attempt{Order: anOrder(), Number: 1}).Verdict)
	require.Equal(t, egress.Accepted, b.Send(t.Context(), egress.Attempt{Order: anOrder(), Number: 2}).Verdict)

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	require.NoError(t, err)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.JSONEq(t, `{"orders":2,"high":2,"medium":0,"low":0,"repeats":1,"bytes":`+strconv.Itoa(2*len(anOrder().Body))+`}`, string(body))
	b.CloseIdle()
	cancel()
	require.NoError(t, <-ended)
}

func TestStubRefusesWhatIsNotJSON(t *testing.T) {
	w := httptest.NewRecorder()
	NewStub(nil).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("{")))
	require.Contains(t, w.Body.String(), "-32700")
}
