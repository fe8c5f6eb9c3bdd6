package wire

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
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/wire/scripted"
)

func quietly(s *httptest.Server) { s.Config.ErrorLog = log.New(io.Discard, "", 0) }

// secure is a TLS server, and a peer at https://example.com that is told to find it there.
func secure(t *testing.T, h http.HandlerFunc, change ...func(*httptest.Server)) (p *peered, dials *atomic.Int64) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	for _, f := range change {
		f(s)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	p = newPeer(t, "https://example.com/rpc")
	p.timeout = 20 * time.Second
	p.tls.RootCAs = x509.NewCertPool()
	p.tls.RootCAs.AddCert(s.Certificate())
	return p, redirect(p, s.Listener.Addr().String())
}

// redirect makes b's connections lead to addr.
func redirect(p *peered, addr string) *atomic.Int64 {
	dials := &atomic.Int64{}
	p.dial = func(ctx context.Context) (net.Conn, error) {
		dials.Add(1)
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}
	return dials
}

func TestTLSKnowsTheNameAndTheProtocol(t *testing.T) {
	var got *http.Request
	var body []byte
	p, dials := secure(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":null}`)
	})
	for _, size := range []int{10, 300 << 10, 10} {
		sent := bytes.Repeat([]byte("y"), size)
		r := p.call(t.Context(), p.request(sent))
		require.NoError(t, r.err)
		require.Positive(t, r.Bytes)
		require.Equal(t, string(sent), string(body))
		require.Equal(t, "/rpc", got.URL.Path)
		require.Equal(t, "example.com", got.Host)
		require.Equal(t, "example.com", got.TLS.ServerName)
		require.Equal(t, "http/1.1", got.TLS.NegotiatedProtocol)
		require.Equal(t, uint16(tls.VersionTLS13), got.TLS.Version)
		require.LessOrEqual(t, cap(p.idle[0].Head), keptBuffer)
	}
	require.Equal(t, int64(1), dials.Load())
	require.Nil(t, newPeer(t, "http://x").tls)
	c := newPeer(t, "https://bücher.example").tls
	require.Equal(t, "xn--bcher-kva.example", c.ServerName)
	require.Nil(t, c.RootCAs, "the system's")
	require.False(t, c.InsecureSkipVerify)
}

func TestTLSRefusesWhatItCanNotTrust(t *testing.T) {
	never := func(http.ResponseWriter, *http.Request) { t.Error("a request came through") }
	old := func(s *httptest.Server) {
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	}
	stranger, _ := secure(t, never, quietly)
	stranger.tls.RootCAs = x509.NewCertPool()
	misnamed, _ := secure(t, never, quietly)
	misnamed.tls.ServerName = "example.org"
	outdated, _ := secure(t, never, quietly, old)
	for text, p := range map[string]*peered{"unknown authority": stranger, "not example.org": misnamed, "protocol version": outdated} {
		r := ask(p)
		require.Error(t, r.err)
		require.Contains(t, r.text(), "tls handshake: ")
		require.Contains(t, r.text(), text)
		require.Zero(t, r.Bytes)
		settled(t, p, 0)
	}
}

func TestTLSHandshakeThatHangsIsNotWaitedFor(t *testing.T) {
	p, _ := secure(t, func(http.ResponseWriter, *http.Request) {})
	silent := scripted.Serve(t, func(s *scripted.Conn) { s.UntilEnd() })
	redirect(p, mustParse(t, silent).Host)
	p.timeout = 20 * time.Millisecond
	r := ask(p)
	require.Error(t, r.err)
	require.Equal(t, "context deadline exceeded", r.text())
	p.timeout = 20 * time.Second
	began := time.Now()
	r = ask(p)
	require.Error(t, r.err)
	require.Contains(t, r.text(), "tls handshake: ")
	require.Less(t, time.Since(began), 10*time.Second)
}

// Session tickets come when nobody asked. They are no answer, and no reason to shake hands again.
func TestTLSTicketsAreNoUnaskedAnswers(t *testing.T) {
	for came, auth := range map[arrival]tls.ClientAuthType{
		silence:   tls.NoClientCert,      // the ticket comes with the handshake and is read ahead
		something: tls.RequestClientCert, // it comes after it
	} {
		p, dials := secure(t, func(http.ResponseWriter, *http.Request) {}, func(s *httptest.Server) {
			s.TLS = &tls.Config{ClientAuth: auth}
		})
		p.tls.ClientSessionCache = tls.NewLRUClientSessionCache(1) // else none are sent
		c, err := p.connect(t.Context())
		require.NoError(t, err)
		p.open++
		p.Put(c)
		require.Eventually(t, func() bool {
			require.NoError(t, c.tcp.SetDeadline(time.Time{}))
			require.NoError(t, c.raw.Read(c.look))
			return c.came == came
		}, 20*time.Second, time.Millisecond)
		r := ask(p)
		require.NoError(t, r.err)
		require.Equal(t, int64(1), dials.Load())
		settled(t, p, 1)
	}
}

// What TLS has read ahead can't be seen on the connection below.
func TestTLSBytesThatNobodyAskedForAreNoAnswer(t *testing.T) {
	for name, more := range map[string]func(net.Conn){
		"an answer": func(c net.Conn) { _, _ = io.WriteString(c, yes) },
		"the end":   func(c net.Conn) { _ = c.(*tls.Conn).CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			p, dials := secure(t, func(w http.ResponseWriter, r *http.Request) {
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
			require.Equal(t, 503, ask(p).Status)
			require.Eventually(t, func() bool { return len(p.idle) == 0 || idleEnded(p) == 1 }, 20*time.Second, time.Millisecond)
			require.Equal(t, 503, ask(p).Status)
			require.Equal(t, int64(2), dials.Load())
		})
	}
}

func TestTLSTheEndOfTheContextEndsARequestAtOnce(t *testing.T) {
	asked := make(chan struct{})
	p, _ := secure(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(asked)
		<-r.Context().Done()
	})
	p.timeout = time.Minute
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan told)
	go func() { results <- p.call(ctx, p.request([]byte("{}"))) }()
	<-asked
	cancel()
	r := <-results
	require.Error(t, r.err)
	require.Positive(t, r.Bytes)
	require.Equal(t, "context canceled", r.text())
}
