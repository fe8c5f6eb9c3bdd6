package ingress

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// certificate is the key pair that the order listener shows; it is replaced when its files change.
type certificate struct {
	current atomic.Pointer[tls.Certificate]
	failing atomic.Bool // the last poll could not read the files

	mu   sync.Mutex
	read [sha256.Size]byte // digest of what was loaded or refused last
}

// load reads the key pair; on error the one in use stays.
func (c *certificate) load(files TLS) error {
	_, err := c.refresh(files)
	return err
}

// refresh is load, and reports whether the files had changed since they were read last.
func (c *certificate) refresh(files TLS) (changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	certPEM, err := os.ReadFile(files.Cert)
	if err != nil {
		return true, fmt.Errorf("read ingress.tls.cert: %w", err)
	}
	keyPEM, err := os.ReadFile(files.Key)
	if err != nil {
		return true, fmt.Errorf("read ingress.tls.key: %w", err)
	}
	digest := sha256.Sum256(append(append([]byte(nil), certPEM...), keyPEM...))
	if digest == c.read {
		return false, nil
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return true, fmt.Errorf("load ingress.tls.cert: %w", err)
	}
	c.read = digest
	c.current.Store(&pair)
	return true, nil
}

// config is TLS 1.3 only, with the certificate that is current at each handshake.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.current.Load(), nil
		},
	}
}

// watchCertificate reads the files now and then; polling sees what file events miss (renamed
// directories, mounted secrets).
func (s *Server) watchCertificate(ctx context.Context) {
	tick := time.NewTicker(certificatePoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.refreshCertificate(ctx)
	}
}

// refreshCertificate logs changes of state only.
func (s *Server) refreshCertificate(ctx context.Context) {
	changed, err := s.certificate.refresh(s.policy.Load().TLS)
	failed := s.certificate.failing.Swap(err != nil)
	switch {
	case err != nil && !failed:
		s.metrics.reloads["failed"].Inc()
		s.log.LogAttrs(ctx, slog.LevelWarn, "certificate not reloaded, the old one stays", slog.Any("error", err))
	case err == nil && changed:
		s.metrics.reloads["ok"].Inc()
		s.log.LogAttrs(ctx, slog.LevelInfo, "certificate reloaded")
	}
}
