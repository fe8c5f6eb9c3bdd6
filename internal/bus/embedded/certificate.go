package embedded

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// certificateEvery bounds how often handshakes look at the files.
const certificateEvery = time.Second

// certificate is the key pair that the listener shows. A handshake reads the files again, at most
// once in certificateEvery, so a certificate that is renewed in place needs neither a restart nor a
// reload of the server; open connections go on as they are. Files that can't be used leave the
// certificate before them in place.
type certificate struct {
	log     *slog.Logger
	current atomic.Pointer[tls.Certificate]

	mu                sync.Mutex // held while the files are read; who does not get it shows what is there
	certFile, keyFile string
	read              [sha256.Size]byte // digest of what was loaded last
	looked            time.Time
	failing           bool // the files could not be used when they were looked at last
}

// openCertificate returns nil when there are no files: no TLS is wanted.
func openCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	if certFile == "" {
		return nil, nil //nolint:nilnil // no TLS wanted
	}
	c := &certificate{log: log}
	return c, c.use(certFile, keyFile)
}

// use shows the key pair in other files from the next handshake on. On error the one in use stays.
func (c *certificate) use(certFile, keyFile string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.load(certFile, keyFile); err != nil {
		return err
	}
	c.certFile, c.keyFile, c.looked, c.failing = certFile, keyFile, time.Now(), false
	return nil
}

// load reads a key pair and makes it the current one, unless it was read before.
func (c *certificate) load(certFile, keyFile string) (changed bool, err error) {
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return false, fmt.Errorf("read listener certificate: %w", err)
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return false, fmt.Errorf("read key of listener certificate: %w", err)
	}
	digest := sha256.Sum256(slices.Concat(certPEM, keyPEM))
	if digest == c.read {
		return false, nil
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return false, fmt.Errorf("load listener certificate: %w", err)
	}
	c.read = digest
	c.current.Store(&pair)
	return true, nil
}

// refresh looks at the files when it is time to, and logs changes of state only.
func (c *certificate) refresh() {
	if !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	if time.Since(c.looked) < certificateEvery {
		return
	}
	c.looked = time.Now()
	changed, err := c.load(c.certFile, c.keyFile)
	failed, ctx := c.failing, context.Background() // a handshake belongs to no call
	c.failing = err != nil
	switch {
	case err != nil && !failed:
		c.log.LogAttrs(ctx, slog.LevelWarn, "nats listener certificate not reloaded, the old one stays", slog.Any("error", err))
	case changed:
		c.log.LogAttrs(ctx, slog.LevelInfo, "nats listener certificate reloaded")
	}
}

// show is a handshake's question.
func (c *certificate) show(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.refresh()
	return c.current.Load(), nil
}

// config is TLS 1.3 only, with the certificate that is current at each handshake.
func (c *certificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: c.show}
}

// UseCertificate makes the listener show the key pair in other files from the next handshake on;
// open connections go on. It does nothing for a server that was started without a certificate, and
// for empty names: TLS goes on and off with a restart. On error the certificate in use stays.
func (s *Server) UseCertificate(certFile, keyFile string) error {
	if s.cert == nil || certFile == "" {
		return nil
	}
	return s.cert.use(certFile, keyFile)
}
