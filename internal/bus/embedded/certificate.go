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

// openCertificate returns nil when there are no files: no TLS is wanted.
func openCertificate(certFile, keyFile string, log *slog.Logger) (*certificate.Pair, error) {
	if certFile == "" {
		return nil, nil //nolint:nilnil // no TLS wanted
	}
	p := certificate.New("listener certificate", "key of listener certificate", func(err error) {
		ctx := context.Background() // a handshake belongs to no call
		if err != nil {
			log.LogAttrs(ctx, slog.LevelWarn, "nats listener certificate not reloaded, the old one stays", slog.Any("error", err))
			return
		}
		log.LogAttrs(ctx, slog.LevelInfo, "nats listener certificate reloaded")
	})
	return p, p.Load(certFile, keyFile)
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
