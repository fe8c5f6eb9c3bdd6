package engine

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"
)

// certificatePoll is how often the files are read; polling sees what file events miss (renamed
// directories, mounted secrets).
const certificatePoll = 5 * time.Second

// certificate is the key pair that the listener shows; it is replaced when its files change. One
// goroutine refreshes it.
type certificate struct {
	files   TLS
	current atomic.Pointer[tls.Certificate]
	read    [sha256.Size]byte // digest of what was loaded last
	failing bool              // the last poll could not load the files
}

// refresh loads the files if they changed; on error the pair in use stays.
func (c *certificate) refresh() (changed bool, err error) {
	certPEM, err := os.ReadFile(c.files.Cert)
	if err != nil {
		return false, fmt.Errorf("read engine.tls.cert: %w", err)
	}
	keyPEM, err := os.ReadFile(c.files.Key)
	if err != nil {
		return false, fmt.Errorf("read engine.tls.key: %w", err)
	}
	digest := sha256.Sum256(slices.Concat(certPEM, keyPEM))
	if digest == c.read {
		return false, nil
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return false, fmt.Errorf("load engine.tls.cert: %w", err)
	}
	c.read = digest
	c.current.Store(&pair)
	return true, nil
}

// config is TLS 1.3 only, with the certificate that is current at each handshake.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.current.Load(), nil
		},
	}
}

// watchCertificate polls until ctx ends.
func (d *Door) watchCertificate(ctx context.Context) {
	tick := time.NewTicker(certificatePoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.refreshCertificate(ctx)
		}
	}
}

// refreshCertificate logs changes of state only.
func (d *Door) refreshCertificate(ctx context.Context) {
	c := &d.certificate
	changed, err := c.refresh()
	switch {
	case err != nil && !c.failing:
		d.metrics.reloads["failed"].Inc()
		d.log.LogAttrs(ctx, slog.LevelWarn, "engine certificate not reloaded, the old one stays", slog.Any("error", err))
	case err == nil && changed:
		d.metrics.reloads["ok"].Inc()
		d.log.LogAttrs(ctx, slog.LevelInfo, "engine certificate reloaded")
	}
	c.failing = err != nil
}
