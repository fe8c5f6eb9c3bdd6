package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// keyPair writes a self-signed certificate and its key into a directory of their own.
func keyPair(t *testing.T, serial int64) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	require.NoError(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	return cert, key
}

// serialAt is the serial number of the certificate that a NATS listener shows; zero: none.
func serialAt(t *testing.T, addr string) int64 {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil { // INFO comes before the handshake
		return 0
	}
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	if secure.HandshakeContext(t.Context()) != nil {
		return 0
	}
	return secure.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func TestReloadGivesTheBusListenerACertificateFromOtherFiles(t *testing.T) {
	cert, key := keyPair(t, 1)
	addr := freeAddr(t)
	path := filepath.Join(t.TempDir(), "millrace.yaml")
	write := func(cert, key string) {
		tmp := path + ".tmp"
		text := fmt.Sprintf("nats:\n  listen: %s\n  tls:\n    cert: %s\n    key: %s\n", addr, cert, key)
		require.NoError(t, os.WriteFile(tmp, []byte(text), 0o600))
		require.NoError(t, os.Rename(tmp, path))
	}
	write(cert, key)
	p := start(t, nil, nodeArgs(t.TempDir(), "--config="+path)...)
	p.line("started", 1)
	require.EqualValues(t, 1, serialAt(t, addr))

	second, secondKey := keyPair(t, 2)
	write(second, key)
	refused := p.line("reload refused, the earlier configuration stays in force", 1)
	require.Contains(t, refused["error"], "nats.tls: load listener certificate")
	require.EqualValues(t, 1, serialAt(t, addr))

	write(second, secondKey)
	require.Equal(t, []any{"nats.tls.cert", "nats.tls.key"}, p.line("reloaded", 1)["keys"])
	require.EqualValues(t, 2, serialAt(t, addr))

	// What comes into the same files needs no reload.
	third, thirdKey := keyPair(t, 3)
	require.NoError(t, os.Rename(thirdKey, secondKey))
	require.NoError(t, os.Rename(third, second))
	eventually(t, "the renewed certificate is shown", func() bool { return serialAt(t, addr) == 3 })
}
