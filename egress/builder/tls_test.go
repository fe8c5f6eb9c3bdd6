package builder

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/egress"
)

func mustParse(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := parseURL(s)
	require.NoError(t, err)
	return u
}

// secure is a TLS server, and a builder at https://example.com that is told to find it there.
func secure(t *testing.T, h http.HandlerFunc, change ...func(*httptest.Server)) (b *Builder, dials *atomic.Int64) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	for _, f := range change {
		f(s)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	b = newBuilder(t, "https://example.com/rpc")
	b.timeout = 20 * time.Second
	b.conns.tls.RootCAs = x509.NewCertPool()
	b.conns.tls.RootCAs.AddCert(s.Certificate())
	return b, redirect(b, s.Listener.Addr().String())
}

// redirect makes b's connections lead to addr.
func redirect(b *Builder, addr string) *atomic.Int64 {
	dials := &atomic.Int64{}
	b.conns.dial = func(ctx context.Context) (net.Conn, error) {
		dials.Add(1)
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}
	return dials
}

func TestTLSKnowsTheNameAndTheProtocol(t *testing.T) {
	var got *http.Request
	var body []byte
	b, dials := secure(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":null}`)
	})
	for _, size := range []int{10, 300 << 10, 10} {
		o := anOrder()
		o.Body = bytes.Repeat([]byte("y"), size)
		r := b.Send(t.Context(), egress.Attempt{Order: o, Number: 1})
		require.Equal(t, egress.Accepted, r.Verdict, r.Text)
		require.False(t, r.FirstByte.IsZero())
		require.Equal(t, string(o.Body), string(body))
		require.Equal(t, "/rpc", got.URL.Path)
		require.Equal(t, "example.com", got.Host)
		require.Equal(t, "example.com", got.TLS.ServerName)
		require.Equal(t, "http/1.1", got.TLS.NegotiatedProtocol)
		require.Equal(t, uint16(tls.VersionTLS13), got.TLS.Version)
		require.LessOrEqual(t, cap(b.conns.idle[0].head), keptBuffer)
	}
	require.Equal(t, int64(1), dials.Load())
	require.Nil(t, newConns(mustParse(t, "http://x"), 1).tls)
	c := newConns(mustParse(t, "https://bücher.example"), 1).tls
	require.Equal(t, "xn--bcher-kva.example", c.ServerName)
	require.Nil(t, c.RootCAs, "the system's")
	require.False(t, c.InsecureSkipVerify)
}

func TestTLSRefusesWhatItCanNotTrust(t *testing.T) {
	never := func(http.ResponseWriter, *http.Request) { t.Error("a request came through") }
	quiet := func(s *httptest.Server) { s.Config.ErrorLog = log.New(io.Discard, "", 0) }
	old := func(s *httptest.Server) {
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	}
	stranger, _ := secure(t, never, quiet)
	stranger.conns.tls.RootCAs = x509.NewCertPool()
	misnamed, _ := secure(t, never, quiet)
	misnamed.conns.tls.ServerName = "example.org"
	outdated, _ := secure(t, never, quiet, old)
	for text, b := range map[string]*Builder{"unknown authority": stranger, "not example.org": misnamed, "protocol version": outdated} {
		r := send(b)
		require.Equal(t, egress.Unreachable, r.Verdict)
		require.Contains(t, r.Text, "tls handshake: ")
		require.Contains(t, r.Text, text)
		require.True(t, r.FirstByte.IsZero())
		settled(t, b, 0)
	}
}

func TestTLSHandshakeThatHangsIsNotWaitedFor(t *testing.T) {
	b, _ := secure(t, func(http.ResponseWriter, *http.Request) {})
	silent := scripted(t, func(p *peer) { p.untilEnd() })
	redirect(b, mustParse(t, silent).Host)
	b.timeout = 20 * time.Millisecond
	r := send(b)
	require.Equal(t, egress.Unreachable, r.Verdict)
	require.Equal(t, "context deadline exceeded", r.Text)
	b.timeout = 20 * time.Second
	began := time.Now()
	r = send(b)
	require.Equal(t, egress.Unreachable, r.Verdict)
	require.Contains(t, r.Text, "tls handshake: ")
	require.Less(t, time.Since(began), 10*time.Second)
}

// Session tickets come when nobody asked. They are no answer, and no reason to shake hands again.
func TestTLSTicketsAreNoUnaskedAnswers(t *testing.T) {
	for came, auth := range map[arrival]tls.ClientAuthType{
		silence:   tls.NoClientCert,      // the ticket comes with the handshake and is read ahead
		something: tls.RequestClientCert, // it comes after it
	} {
		b, dials := secure(t, func(http.ResponseWriter, *http.Request) {}, func(s *httptest.Server) {
			s.TLS = &tls.Config{ClientAuth: auth}
		})
		b.conns.tls.ClientSessionCache = tls.NewLRUClientSessionCache(1) // else none are sent
		c, err := b.conns.connect(t.Context())
		require.NoError(t, err)
		b.conns.open++
		b.conns.put(c)
		require.Eventually(t, func() bool {
			require.NoError(t, c.tcp.SetDeadline(time.Time{}))
			require.NoError(t, c.raw.Read(c.look))
			return c.came == came
		}, 20*time.Second, time.Millisecond)
		r := send(b)
		require.Equal(t, egress.Accepted, r.Verdict, r.Text)
		require.Equal(t, int64(1), dials.Load())
		settled(t, b, 1)
	}
}

// What TLS has read ahead can't be seen on the connection below.
func TestTLSBytesThatNobodyAskedForAreNoAnswer(t *testing.T) {
	for name, more := range map[string]func(net.Conn){
		"an answer": func(c net.Conn) { _, _ = io.WriteString(c, yes) },
		"the end":   func(c net.Conn) { _ = c.(*tls.Conn).CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			b, dials := secure(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				c, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					return
				}
				defer c.Close()
				_, _ = io.WriteString(c, no)
				more(c)
				_, _ = io.Copy(io.Discard, c)
			})
			require.Equal(t, egress.Busy, send(b).Verdict)
			require.Eventually(t, func() bool { return len(b.conns.idle) == 0 || idleEnded(b) == 1 }, 20*time.Second, time.Millisecond)
			require.Equal(t, egress.Busy, send(b).Verdict)
			require.Equal(t, int64(2), dials.Load())
		})
	}
}

func TestTLSTheEndOfTheContextEndsARequestAtOnce(t *testing.T) {
	asked := make(chan struct{})
	b, _ := secure(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(asked)
		<-r.Context().Done()
	})
	b.timeout = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan egress.Result)
	go func() { results <- b.Send(ctx, egress.Attempt{Order: anOrder(), Number: 1}) }()
	<-asked
	cancel()
	r := <-results
	require.Equal(t, egress.Lost, r.Verdict)
	require.Equal(t, "context canceled", r.Text)
}
