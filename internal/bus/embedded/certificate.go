package embedded

import (
	"context"
	"log/slog"
	"time"

	"millrace/internal/certificate"
)

// certificateEvery bounds how often handshakes look at the files. Nobody polls them besides: without
// connections there is nobody to show a certificate to.
const certificateEvery = time.Second

// openCertificate leaves the certificate nil when there are no files: no TLS is wanted.
func (s *Server) openCertificate() error {
	if s.cfg.TLSCert == "" {
		return nil
	}
	s.cert = certificate.New("listener certificate", "key of listener certificate", s.certificateChanged)
	return s.cert.Load(s.cfg.TLSCert, s.cfg.TLSKey)
}

// certificateChanged hears of changes of state only.
func (s *Server) certificateChanged(err error) {
	ctx := context.Background() // a handshake belongs to no call
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "nats listener certificate not reloaded, the old one stays", slog.Any("error", err))
		return
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "nats listener certificate reloaded")
}

// UseCertificate makes the listener show the key pair in other files from the next handshake on;
// open connections go on. It does nothing for a server that was started without a certificate, and
// for empty names: TLS goes on and off with a restart. On error the certificate in use stays.
func (s *Server) UseCertificate(certFile, keyFile string) error {
	if s.cert == nil || certFile == "" {
		return nil
	}
	return s.cert.Load(certFile, keyFile)
}
