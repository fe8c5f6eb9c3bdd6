package builder

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/egress"
	"millrace/internal/order"
	"millrace/internal/wire"
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

func newBuilder(tb testing.TB, url string, busy ...int) *Builder {
	tb.Helper()
	s, err := NewSigner("")
	require.NoError(tb, err)
	b, err := New(Target{Name: "b", URL: url, Timeout: time.Second}, busy, s, wallClock{}, 8)
	require.NoError(tb, err)
	tb.Cleanup(b.CloseIdle)
	return b
}

// rewire gives b another way to connect, or other bounds.
func (b *Builder) rewire(tb testing.TB, url string, change func(*wire.Config)) {
	tb.Helper()
	u, err := parseURL(url)
	require.NoError(tb, err)
	c := wireConfig(8)
	change(&c)
	b.peer, err = wire.New(u, c)
	require.NoError(tb, err)
	tb.Cleanup(b.CloseIdle)
}

// dialing has f make the connections to url.
func dialing(url string, f func(*net.TCPConn)) func(*wire.Config) {
	return func(c *wire.Config) {
		c.Dial = func(ctx context.Context) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(url, "http://"))
			if err == nil {
				f(conn.(*net.TCPConn))
			}
			return conn, err
		}
	}
}

func serve(tb testing.TB, h http.HandlerFunc) *httptest.Server {
	tb.Helper()
	s := httptest.NewServer(h)
	tb.Cleanup(s.Close)
	return s
}

func TestSendKeepsTheBodyAndSetsTheHeaders(t *testing.T) {
	o := anOrder()
	var got *http.Request
	var body []byte
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":null}`)
	})
	b := newBuilder(t, strings.Replace(s.URL, "http://", "http://user:secret@", 1)+"/rpc")
	before := time.Now()
	r := b.Send(t.Context(), egress.Attempt{Order: o, Number: 1})
	require.Equal(t, egress.Accepted, r.Verdict)
	require.Equal(t, 200, r.Status)
	require.False(t, r.FirstByte.Before(before.Truncate(time.Millisecond)))

	require.Equal(t, string(o.Body), string(body))
	require.Equal(t, "/rpc", got.URL.Path)
	require.Equal(t, "HTTP/1.1", got.Proto)
	require.Equal(t, "application/json", got.Header.Get("Content-Type"))
	require.Equal(t, "high", got.Header.Get("X-BuilderNet-Priority"))
	require.Equal(t, o.Traceparent, got.Header.Get("Traceparent"))
	require.Empty(t, got.Header.Get(HeaderRepeat))
	user, password, _ := got.BasicAuth()
	require.Equal(t, "user/secret", user+"/"+password)
	sentAt, err := strconv.ParseInt(got.Header.Get("X-BuilderNet-SentAtUs"), 10, 64)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), time.UnixMicro(sentAt), time.Minute)
	signer, err := order.RecoverSigner(got.Header.Get("X-Flashbots-Signature"), body)
	require.NoError(t, err)
	require.Equal(t, b.signer.Address(), signer)
}

// Rule 12: what may be a repeat is marked so.
func TestRule12PossibleRepeatsAreMarked(t *testing.T) {
	marks := make(chan string, 3)
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) { marks <- r.Header.Get("X-Millrace-Repeat") })
	b := newBuilder(t, s.URL)
	for _, a := range []egress.Attempt{{Number: 1}, {Number: 1, Repeat: true}, {Number: 2}} {
		a.Order = anOrder()
		require.Equal(t, egress.Accepted, b.Send(t.Context(), a).Verdict)
	}
	require.Equal(t, []string{"", "1", "1"}, []string{<-marks, <-marks, <-marks})
}

func TestRule15AnswersMeanWhatTheySay(t *testing.T) {
	for _, c := range []struct {
		status  int
		body    string
		verdict egress.Verdict
		code    int
		text    string
	}{
		{200, `{"jsonrpc":"2.0","id":1,"result":"0x1"}`, egress.Accepted, 0, ""},
		{200, ``, egress.Accepted, 0, ""},
		{204, ``, egress.Accepted, 0, ""},
		{200, `null`, egress.Accepted, 0, ""},
		{200, `OK`, egress.Accepted, 0, ""},
		{200, `{"result":null,"error":null}`, egress.Accepted, 0, ""},
		{202, `{"result":{"error":"inside"}}`, egress.Accepted, 0, ""},
		{200, `{"id":1,"error":{"code":-32000,"message":"nonce too low"}}`, egress.Rejected, -32000, "nonce too low"},
		{200, `{"id":1,"error":"what"}`, egress.Rejected, 0, `"what"`},
		{200, `{"id":1,"error":{"code":-32005,"message":"queue full"}}`, egress.Busy, -32005, "queue full"},
		{400, `{"error":{"code":-32602,"message":"bad\nparams"}}`, egress.Rejected, -32602, "bad params"},
		{404, "no such\x00page", egress.Rejected, 0, "http 404 no such page"},
		{408, ``, egress.Busy, 0, "http 408"},
		{425, ``, egress.Busy, 0, "http 425"},
		{429, ``, egress.Busy, 0, "http 429"},
		{500, `oops`, egress.Busy, 0, "http 500 oops"},
		{503, ``, egress.Busy, 0, "http 503"},
		{302, ``, egress.Busy, 0, "http 302"},
	} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})
		r := newBuilder(t, s.URL, -32005).Send(t.Context(), egress.Attempt{Order: anOrder(), Number: 1})
		require.Equal(t, c.verdict, r.Verdict, "%d %s", c.status, c.body)
		require.Equal(t, c.code, r.RPCCode, "%d %s", c.status, c.body)
		require.Equal(t, c.text, r.Text, "%d %s", c.status, c.body)
		require.Equal(t, c.status, r.Status)
	}
}

func TestRule15ARefusedConnectionIsNotAWrittenRequest(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	url := "http://" + l.Addr().String()
	require.NoError(t, l.Close())
	r := newBuilder(t, url).Send(t.Context(), egress.Attempt{Order: anOrder(), Number: 1})
	require.Equal(t, egress.Unreachable, r.Verdict)
	require.NotEmpty(t, r.Text)
	require.True(t, r.FirstByte.IsZero())
}

func TestRule15AnUnansweredRequestIsLost(t *testing.T) {
	release := make(chan struct{})
	s := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-release
	})
	defer close(release)
	b := newBuilder(t, s.URL)
	b.timeout = 20 * time.Millisecond
	r := b.Send(t.Context(), egress.Attempt{Order: anOrder(), Number: 1})
	require.Equal(t, egress.Lost, r.Verdict)
	require.False(t, r.FirstByte.IsZero())
}

func TestACutOffAnswerIsLost(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, `{"jsonrpc"`)
	})
	r := newBuilder(t, s.URL).Send(t.Context(), egress.Attempt{Order: anOrder(), Number: 1})
	require.Equal(t, egress.Lost, r.Verdict)
}

func TestAnEndlessAnswerIsCutOff(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	})
	r := newBuilder(t, s.URL).Send(t.Context(), egress.Attempt{Order: anOrder(), Number: 1})
	require.Equal(t, egress.Accepted, r.Verdict)
}

func TestRetryAfterIsReadInBothForms(t *testing.T) {
	now := time.Date(2026, 11, 20, 21, 0, 0, 0, time.UTC)
	require.Equal(t, 3*time.Second, retryAfter("3", now))
	require.Equal(t, 5*time.Second, retryAfter("Fri, 20 Nov 2026 21:00:05 GMT", now))
	require.Zero(t, retryAfter("Fri, 20 Nov 2026 20:00:05 GMT", now))
	require.Zero(t, retryAfter("soon", now))
	require.Zero(t, retryAfter("-1", now))
	require.Equal(t, maxRetryAfter, retryAfter("999999999", now))
}

func TestSignerSignsAnOrderOnce(t *testing.T) {
	s, err := NewSigner("")
	require.NoError(t, err)
	o := anOrder()
	first, err := s.Sign(o)
	require.NoError(t, err)
	o.Body = []byte("read again")
	again, err := s.Sign(o)
	require.NoError(t, err)
	require.Equal(t, first, again)
	for range signatures {
		s.keep(order.NewAcceptID(time.Now()), "x")
	}
	require.Len(t, s.known, signatures)
	require.NotContains(t, s.known, o.Accept)
}

func TestSignerTakesHexAndFilesAndNeverRepeatsAKey(t *testing.T) {
	const key = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
	want, err := crypto.HexToECDSA(key)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(file, []byte("0x"+key+"\n"), 0o600))
	for _, v := range []string{key, "0x" + key, file} {
		s, err := NewSigner(v)
		require.NoError(t, err)
		require.Equal(t, crypto.PubkeyToAddress(want.PublicKey), s.Address())
	}
	_, err = NewSigner(key[1:])
	require.Error(t, err)
	require.NotContains(t, err.Error(), key[1:])
	require.NoError(t, os.WriteFile(file, []byte("nonsense"), 0o600))
	_, err = NewSigner(file)
	require.Error(t, err)
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
	s, err := NewSigner("")
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

func FuzzJudge(f *testing.F) {
	f.Add(200, []byte(`{"error":{"code":1,"message":"x"}}`))
	f.Add(200, []byte(`{"error":"\ud800"}`))
	f.Add(429, []byte(``))
	f.Add(404, []byte("\xff\xfe"))
	b := newBuilder(f, "http://127.0.0.1:1", 1)
	f.Fuzz(func(t *testing.T, status int, answer []byte) {
		r := b.judge(wire.Answer{Status: status, Body: answer}, nil)
		require.NotZero(t, r.Verdict)
		require.LessOrEqual(t, len(r.Text), 400)
	})
}
