package doortest

import (
	"crypto/tls"
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/certificate/selfsigned"
)

// errPlain: no TLS was spoken.
var errPlain = errors.New("not a TLS connection")

// Serial is the serial number of the certificate that d shows to who speaks at most the given version of TLS.
func Serial(tb testing.TB, d Door, highest uint16) (int64, error) {
	tb.Helper()
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MaxVersion: highest}} //nolint:gosec // the test looks at what is shown
	conn, err := dialer.DialContext(tb.Context(), "tcp", d.Addr().String())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return 0, errPlain
	}
	return secure.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
}

// FollowsItsCertificate wants d to speak TLS 1.3 alone, to show the certificate in dir, which selfsigned wrote with
// serial number 1, and after refresh the next one, and to keep that when the file is torn, as it is afterwards.
func FollowsItsCertificate(tb testing.TB, d Door, dir string, refresh func()) {
	tb.Helper()
	shows := func(want int64) {
		tb.Helper()
		n, err := Serial(tb, d, tls.VersionTLS13)
		require.NoError(tb, err)
		require.Equal(tb, want, n)
	}
	shows(1)
	_, err := Serial(tb, d, tls.VersionTLS12)
	require.Error(tb, err)
	cert, _ := selfsigned.Write(tb, dir, 2)
	refresh()
	shows(2)
	require.NoError(tb, os.WriteFile(cert, []byte("torn"), 0o600))
	refresh()
	refresh()
	shows(2)
}
