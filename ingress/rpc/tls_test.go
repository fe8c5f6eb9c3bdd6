package rpc

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"millrace/internal/certificate/selfsigned"
	"millrace/internal/doortest"
)

func TestTheListenerServesTLS13AndFollowsItsCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := selfsigned.Write(t, dir, 1)
	f := open(t, DialectPrio, func(c *Config, _ *Ports) { c.TLS = TLS{cert, key} })
	doortest.FollowsItsCertificate(t, f, dir, f.certificate.Refresh)
	require.InDelta(t, 1, testutil.ToFloat64(f.metrics.reloads["ok"]), 0)
	require.InDelta(t, 1, testutil.ToFloat64(f.metrics.reloads["failed"]), 0)
	require.ErrorContains(t, f.Reload(f.policy.Load().Config), "tls.cert")

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+f.Addr().String(), strings.NewReader("x"))
	require.NoError(t, err)
	resp, err := client.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, 1, resp.ProtoMajor)
}

func TestADoorWithoutItsCertificateDoesNotOpen(t *testing.T) {
	t.Parallel()
	f := made(t, DialectPrio, func(c *Config, _ *Ports) { c.TLS = TLS{"/nonexistent", "/nonexistent"} })
	require.ErrorContains(t, f.Run(t.Context()), "tls.cert")
}
