package certificate_test

import (
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/certificate"
	"millrace/internal/certificate/selfsigned"
)

// pair is one under test, with what it reported.
type pair struct {
	*certificate.Pair
	reports   []error
	cert, key string
}

func load(t *testing.T, serial int64) *pair {
	t.Helper()
	p := &pair{}
	p.Pair = certificate.New("the.cert", "the.key", func(err error) { p.reports = append(p.reports, err) })
	p.cert, p.key = selfsigned.Write(t, t.TempDir(), serial)
	require.NoError(t, p.Load(p.cert, p.key))
	return p
}

// dir is where its files are.
func (p *pair) dir() string { return filepath.Dir(p.cert) }

// serial is that of the certificate which a handshake shows.
func serial(t *testing.T, c *tls.Config) int64 {
	t.Helper()
	shown, err := c.GetCertificate(nil)
	require.NoError(t, err)
	return shown.Leaf.SerialNumber.Int64()
}

func write(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
}

func TestRefreshShowsWhatBecameOfTheFiles(t *testing.T) {
	p := load(t, 1)
	c := p.Config(0)
	require.Equal(t, uint16(tls.VersionTLS13), c.MinVersion)
	p.Refresh()
	require.Empty(t, p.reports, "nothing has changed")

	selfsigned.Write(t, t.TempDir(), 2) // elsewhere
	require.Equal(t, int64(1), serial(t, c))
	selfsigned.Write(t, p.dir(), 3)
	require.Equal(t, int64(1), serial(t, c), "handshakes leave it to Refresh")
	p.Refresh()
	require.Equal(t, int64(3), serial(t, c))
	require.Equal(t, []error{nil}, p.reports)
}

func TestFilesThatCantBeUsedLeaveThePairBeforeAndAreReportedOnce(t *testing.T) {
	p := load(t, 1)
	whole, err := os.ReadFile(p.cert)
	require.NoError(t, err)
	write(t, p.cert, "half written")
	p.Refresh()
	p.Refresh()
	require.NoError(t, os.Remove(p.key))
	p.Refresh()
	require.Len(t, p.reports, 1)
	require.ErrorContains(t, p.reports[0], "load the.cert")
	require.Equal(t, int64(1), serial(t, p.Config(0)))

	selfsigned.Write(t, p.dir(), 2)
	p.Refresh()
	require.Len(t, p.reports, 2)
	require.NoError(t, p.reports[1])

	// The certificate that is shown comes back: the trouble is over, and no other certificate is shown.
	kept, err := os.ReadFile(p.cert)
	require.NoError(t, err)
	write(t, p.cert, string(whole)) // with the key of another
	p.Refresh()
	require.Len(t, p.reports, 3)
	require.Error(t, p.reports[2])
	write(t, p.cert, string(kept))
	p.Refresh()
	require.Len(t, p.reports, 3)
	write(t, p.cert, "half written")
	p.Refresh()
	require.Len(t, p.reports, 4, "new trouble")
}

func TestLoadKeepsThePairAndItsFilesWhenOthersCantBeUsed(t *testing.T) {
	p := load(t, 1)
	require.ErrorIs(t, p.Load(p.cert+".missing", p.key), os.ErrNotExist)
	err := p.Load(p.cert, p.key+".missing")
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "read the.key")
	selfsigned.Write(t, p.dir(), 2)
	p.Refresh()
	require.Equal(t, int64(2), serial(t, p.Config(0)), "it still follows its files")

	cert, key := selfsigned.Write(t, t.TempDir(), 3)
	require.NoError(t, p.Load(cert, key))
	require.Equal(t, int64(3), serial(t, p.Config(0)), "at once")
	require.Len(t, p.reports, 1, "of what Load did its caller knows")
}

func TestWatchRefreshesUntilItsContextEnds(t *testing.T) {
	p := load(t, 1)
	selfsigned.Write(t, p.dir(), 2)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		go p.Watch(ctx, time.Minute)
		time.Sleep(59 * time.Second)
		synctest.Wait()
		require.Equal(t, int64(1), serial(t, p.Config(0)))
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, int64(2), serial(t, p.Config(0)))
		cancel()
	})
	require.Equal(t, []error{nil}, p.reports)
}

func TestHandshakesLookAtTheFilesAtMostOncePerInterval(t *testing.T) {
	p := load(t, 1)
	selfsigned.Write(t, p.dir(), 2)
	require.Equal(t, int64(1), serial(t, p.Config(time.Hour)), "they were looked at by Load")
	require.Equal(t, int64(2), serial(t, p.Config(1)))
	require.Equal(t, []error{nil}, p.reports)
}
