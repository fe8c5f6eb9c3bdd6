package embedded_test

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"millrace/internal/bus/embedded"
	"millrace/internal/natstest"
)

// rotate puts another key pair in the place of one.
func rotate(t *testing.T, cert, key string) {
	t.Helper()
	newCert, newKey := certificate(t)
	require.NoError(t, os.Rename(newKey, key))
	require.NoError(t, os.Rename(newCert, cert))
}

func serialIn(t *testing.T, nc *nats.Conn) string {
	t.Helper()
	st, err := nc.TLSConnectionState()
	require.NoError(t, err)
	return st.PeerCertificates[0].SerialNumber.String()
}

// startTLS starts a server with a certificate; dial connects to it, trusting the certificate in its file.
func startTLS(t *testing.T, opts ...natstest.Option) (s *natstest.Server, cert, key string, dial func() (*nats.Conn, error)) {
	t.Helper()
	cert, key = certificate(t)
	s = natstest.Start(t, append(opts, natstest.Listen(), natstest.Config(func(c *embedded.Config) { c.TLSCert, c.TLSKey = cert, key }))...)
	return s, cert, key, func() (*nats.Conn, error) {
		return dialTCP(t, s, seedPath(s, embedded.AdminSeed), nats.RootCAs(cert), nats.NoReconnect())
	}
}

func TestRenewedCertificateIsShownToNewConnectionsAndOldOnesGoOn(t *testing.T) {
	s, cert, key, dial := startTLS(t)
	old, err := dial()
	require.NoError(t, err)
	got, err := old.SubscribeSync("x")
	require.NoError(t, err)
	before := serialIn(t, old)

	rotate(t, cert, key)
	var renewed *nats.Conn
	require.Eventually(t, func() bool { // as soon as a handshake looks at the files again
		renewed, err = dial()
		return err == nil
	}, 10*time.Second, 20*time.Millisecond)
	second := serialIn(t, renewed)
	require.NotEqual(t, before, second)
	require.NoError(t, renewed.Publish("x", []byte("over both")))
	m, err := got.NextMsg(5 * time.Second)
	require.NoError(t, err, "the old connection goes on")
	require.Equal(t, "over both", string(m.Data))
	require.Equal(t, before, serialIn(t, old))

	// A reload of the server's own options does not bring the old one back.
	otherBoot(t, s)
	s.Kill(t)
	require.True(t, s.Unclean())
	rotate(t, cert, key)
	require.NoError(t, s.Settled())
	require.Eventually(t, func() bool {
		nc, err := dial()
		return err == nil && serialIn(t, nc) != second
	}, 10*time.Second, 20*time.Millisecond)
}

// trusting believes these certificates, whatever becomes of their file.
func trusting(certPEM []byte) nats.Option {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	return nats.Secure(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots})
}

func TestCertificateThatCantBeReadLeavesTheOldOneAndIsLoggedOnce(t *testing.T) {
	out := &logBuffer{}
	s, cert, key, _ := startTLS(t, natstest.Log(slog.New(slog.NewTextHandler(out, nil))))
	first, err := os.ReadFile(cert)
	require.NoError(t, err)
	dial := func() error { // trusts the first certificate whatever the file says
		nc, err := dialTCP(t, s, seedPath(s, embedded.AdminSeed), trusting(first), nats.NoReconnect())
		if err == nil {
			nc.Close()
		}
		return err
	}
	const kept = "nats listener certificate not reloaded"
	require.NoError(t, os.WriteFile(cert, []byte("half written"), 0o600))
	require.Eventually(t, func() bool {
		require.NoError(t, dial())
		return strings.Contains(out.String(), kept)
	}, 10*time.Second, 20*time.Millisecond)
	require.ErrorContains(t, s.UseCertificate(cert, key), "load listener certificate")
	require.ErrorIs(t, s.UseCertificate(cert+".missing", key), os.ErrNotExist)
	require.ErrorIs(t, s.UseCertificate(cert, key+".missing"), os.ErrNotExist)
	require.NoError(t, dial())
	rotate(t, cert, key)
	require.Eventually(t, func() bool { return dial() != nil }, 10*time.Second, 20*time.Millisecond)
	require.Contains(t, out.String(), "nats listener certificate reloaded")
	require.Equal(t, 1, strings.Count(out.String(), kept))
}

func TestListenerShowsTheCertificateInOtherFilesAtOnce(t *testing.T) {
	s, _, _, dial := startTLS(t)
	before, err := dial()
	require.NoError(t, err)
	cert, key := certificate(t)
	require.NoError(t, s.UseCertificate(cert, key))
	nc, err := dialTCP(t, s, seedPath(s, embedded.AdminSeed), nats.RootCAs(cert))
	require.NoError(t, err)
	require.NotEqual(t, serialIn(t, before), serialIn(t, nc))
	require.NoError(t, s.UseCertificate("", ""), "TLS does not go off")
	_, err = before.RTT()
	require.NoError(t, err)

	plain := natstest.Start(t, natstest.Listen())
	require.NoError(t, plain.UseCertificate(cert, key), "nor on")
	_, err = dialTCP(t, plain, seedPath(plain, embedded.AdminSeed))
	require.NoError(t, err)
}
