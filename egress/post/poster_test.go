package post

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

func newPoster(tb testing.TB, url string, busy ...int) *Poster {
	tb.Helper()
	s, err := NewSigner("")
	require.NoError(tb, err)
	u, err := ParseURL(url)
	require.NoError(tb, err)
	p, err := New(Config{URL: u, Timeout: time.Second, InFlight: 8, BusyCodes: busy, BusyTexts: []string{"unknown peer"}}, s, wallClock{})
	require.NoError(tb, err)
	tb.Cleanup(p.CloseIdle)
	return p
}

// rewire gives b another way to connect, or other bounds.
func (p *Poster) rewire(tb testing.TB, url string, change func(*wire.Config)) {
	tb.Helper()
	u, err := ParseURL(url)
	require.NoError(tb, err)
	c := wireConfig(8, nil)
	change(&c)
	p.peer, err = wire.New(u, c)
	require.NoError(tb, err)
	tb.Cleanup(p.CloseIdle)
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
	b := newPoster(t, strings.Replace(s.URL, "http://", "http://user:secret@", 1)+"/rpc")
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
	b := newPoster(t, s.URL)
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
		{200, `{"id":1,"error":{"code":-32000,"message":"unknown peers can't send"}}`, egress.Busy, -32000, "unknown peers can't send"},
		{400, `{"error":{"code":-32005,"message":"later"}}`, egress.Busy, -32005, "later"},
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
		r := newPoster(t, s.URL, -32005).Send(t.Context(), egress.Attempt{Order: anOrder(), Number: 1})
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
	r := newPoster(t, url).Send(t.Context(), egress.Attempt{Order: anOrder(), Number: 1})
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
	b := newPoster(t, s.URL)
	b.cfg.Timeout = 20 * time.Millisecond
	r := b.Send(t.Context(), egress.Attempt{Order: anOrder(), Number: 1})
	require.Equal(t, egress.Lost, r.Verdict)
	require.False(t, r.FirstByte.IsZero())
}

func TestACutOffAnswerIsLost(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, `{"jsonrpc"`)
	})
	r := newPoster(t, s.URL).Send(t.Context(), egress.Attempt{Order: anOrder(), Number: 1})
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
	r := newPoster(t, s.URL).Send(t.Context(), egress.Attempt{Order: anOrder(), Number: 1})
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
	first, err := s.Sign(o.Accept, FormBuilder, o.Body)
	require.NoError(t, err)
	o.Body = []byte("read again")
	again, err := s.Sign(o.Accept, FormBuilder, o.Body)
	require.NoError(t, err)
	require.Equal(t, first, again)
	other, err := s.Sign(o.Accept, FormStrict, o.Body)
	require.NoError(t, err)
	require.NotEqual(t, first, other, "each form has its own")
	for range signatures {
		s.keep(signed{order.NewAcceptID(time.Now()), FormBuilder}, "x")
	}
	require.Len(t, s.known, signatures)
	require.NotContains(t, s.known, signed{o.Accept, FormBuilder})
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

func FuzzJudge(f *testing.F) {
	f.Add(200, []byte(`{"error":{"code":1,"message":"x"}}`))
	f.Add(200, []byte(`{"error":"\ud800"}`))
	f.Add(429, []byte(``))
	f.Add(404, []byte("\xff\xfe"))
	b := newPoster(f, "http://127.0.0.1:1", 1)
	f.Fuzz(func(t *testing.T, status int, answer []byte) {
		r := b.judge(wire.Answer{Status: status, Body: answer}, nil)
		require.NotZero(t, r.Verdict)
		require.LessOrEqual(t, len(r.Text), 400)
	})
}
