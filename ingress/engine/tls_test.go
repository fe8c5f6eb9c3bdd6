package engine

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"millrace/internal/certificate/selfsigned"
	"millrace/internal/doortest"
)

func TestTheListenerServesTLS13AndFollowsItsCertificate(t *testing.T) {
	dir := t.TempDir()
	cert, key := selfsigned.Write(t, dir, 1)
	p := newPrimary(t, primarySecret)
	f := open(t, p, func(c *Config) { c.TLS = TLS{cert, key} })
	doortest.FollowsItsCertificate(t, f, dir, f.certificate.Refresh)
	require.Equal(t, 1, counter(t, f, "millrace_engine_tls_reloads_total", "outcome", "ok"))
	require.Equal(t, 1, counter(t, f, "millrace_engine_tls_reloads_total", "outcome", "failed"))

	// Calls and WebSockets work over it.
	f.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+f.Addr().String(), strings.NewReader(rpc("1", "x", "")))
	require.NoError(t, err)
	req.Header.Set("Authorization", token())
	req.Header.Set("Content-Type", "application/json")
	resp, err := f.client.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, 200, resp.StatusCode)
	ws, _, err := websocket.Dial(t.Context(), "wss://"+f.Addr().String(), &websocket.DialOptions{HTTPClient: f.client, HTTPHeader: http.Header{"Authorization": {token()}}})
	require.NoError(t, err)
	write(t, ws, rpc("2", "x", ""))
	require.Contains(t, read(t, ws), `"id":2`)
	require.NoError(t, ws.Close(websocket.StatusNormalClosure, ""))
}

func TestADoorWithoutItsCertificateDoesNotOpen(t *testing.T) {
	f := made(t, "http://127.0.0.1:1", func(c *Config) { c.TLS = TLS{"/nonexistent", "/nonexistent"} })
	require.ErrorContains(t, f.Run(t.Context()), "engine.tls.cert")
}

func TestAnHTTPSPrimaryIsTrustedByItsAuthorityAlone(t *testing.T) {
	dir := t.TempDir()
	cert, key := selfsigned.Write(t, dir, 1)
	pair, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(t, err)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || secretOf(primarySecret).Verify(r.Header.Get("Authorization"), time.Now()) != nil {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	good := made(t, srv.URL, func(c *Config) { c.PrimaryCA = cert }).run()
	require.Equal(t, 200, good.call(rpc("1", "x", "")).status)
	bad := made(t, srv.URL).run()
	require.Equal(t, 502, bad.call(rpc("1", "x", "")).status)
	require.Contains(t, bad.log.String(), (&x509.UnknownAuthorityError{}).Error())

	empty := filepath.Join(dir, "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for _, ca := range []string{empty, "/nonexistent"} {
		_, err = newTarget(Target{Name: "x", URL: srv.URL, CA: ca})
		require.Error(t, err)
	}
}
