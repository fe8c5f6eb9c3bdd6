// Package certificate shows a TLS listener's certificate and follows its files: one that is renewed in
// place needs neither a restart nor a reload, and open connections go on as they are. Files that can't be
// used leave the certificate before them in place.
//
// Nothing runs by itself. Whoever listens lets handshakes look at the files (Config with an interval), or
// runs Watch, which also tells of a broken file while nobody connects. Polling sees what file events
// miss: renamed directories, mounted secrets.
package certificate

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Pair is a certificate chain with its key, as the files have them that Load was given. It is safe for
// concurrent use.
type Pair struct {
	certName, keyName string
	report            func(error)
	current           atomic.Pointer[tls.Certificate]

	mu                sync.Mutex // held while the files are read
	certFile, keyFile string
	digest            [sha256.Size]byte // of what was loaded last
	looked            time.Time
	failing           bool // the files could not be used when they were looked at last
}

// New returns a pair that shows nothing before Load. The names are what errors call the two files.
// Report hears of changes of state that Refresh and handshakes find: nil when another certificate is
// shown, or why the files can't be used, once until they can. It must not call the pair.
func New(certName, keyName string, report func(error)) *Pair {
	return &Pair{certName: certName, keyName: keyName, report: report}
}

// Load shows the pair in these files, and in what becomes of them, from the next handshake on. On error
// the pair in use stays, and so do its files.
func (p *Pair) Load(certFile, keyFile string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.read(certFile, keyFile); err != nil {
		return err
	}
	p.certFile, p.keyFile, p.looked, p.failing = certFile, keyFile, time.Now(), false
	return nil
}

// Refresh looks at the files that were loaded.
func (p *Pair) Refresh() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refresh()
}

// Watch is Refresh at every interval, until ctx ends.
func (p *Pair) Watch(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p.Refresh()
	}
}

// refreshAfter is Refresh for handshakes: it does nothing when the files were looked at not longer ago
// than interval, or are being read; who does not get to read shows what is there.
func (p *Pair) refreshAfter(interval time.Duration) {
	if !p.mu.TryLock() {
		return
	}
	defer p.mu.Unlock()
	if time.Since(p.looked) >= interval {
		p.refresh()
	}
}

func (p *Pair) refresh() {
	p.looked = time.Now()
	changed, err := p.read(p.certFile, p.keyFile)
	failed := p.failing
	p.failing = err != nil
	if changed || err != nil && !failed {
		p.report(err)
	}
}

// read makes the pair in the files the current one, unless it was read before.
func (p *Pair) read(certFile, keyFile string) (changed bool, err error) {
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", p.certName, err)
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", p.keyName, err)
	}
	digest := sha256.Sum256(slices.Concat(certPEM, keyPEM))
	if digest == p.digest {
		return false, nil
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return false, fmt.Errorf("load %s: %w", p.certName, err)
	}
	p.digest = digest
	p.current.Store(&pair)
	return true, nil
}

// Config is TLS 1.3 only, with the pair that is current at each handshake. Handshakes look at the files
// themselves, at most once per interval; with none they leave that to Watch.
func (p *Pair) Config(interval time.Duration) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if interval > 0 {
				p.refreshAfter(interval)
			}
			return p.current.Load(), nil
		},
	}
}
