package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/certificate/selfsigned"
)

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
	t.Parallel()
	cert, key := selfsigned.Write(t, t.TempDir(), 1)
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

	second, secondKey := selfsigned.Write(t, t.TempDir(), 2)
	write(second, key)
	refused := p.line("reload refused, the earlier configuration stays in force", 1)
	require.Contains(t, refused["error"], "nats.tls: load listener certificate")
	require.EqualValues(t, 1, serialAt(t, addr))

	write(second, secondKey)
	require.Equal(t, []any{"nats.tls.cert", "nats.tls.key"}, p.line("reloaded", 1)["keys"])
	require.EqualValues(t, 2, serialAt(t, addr))

	// What comes into the same files needs no reload.
	third, thirdKey := selfsigned.Write(t, t.TempDir(), 3)
	require.NoError(t, os.Rename(thirdKey, secondKey))
	require.NoError(t, os.Rename(third, second))
	eventually(t, "the renewed certificate is shown", func() bool { return serialAt(t, addr) == 3 })
}
