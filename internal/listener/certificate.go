package listener

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"millrace/internal/certificate"
)

// certificatePoll is how often the certificate's files are looked at, so that the metrics tell of broken ones before
// a client does.
const certificatePoll = 5 * time.Second

// NewCertificate is a pair that logs and counts what becomes of it: reloads has the outcomes "ok" and "failed". The
// names are what errors call its files.
func NewCertificate(cert, key string, log *slog.Logger, reloads map[string]prometheus.Counter) *certificate.Pair {
	return certificate.New(cert, key, func(err error) {
		if err != nil {
			reloads["failed"].Inc()
			log.Warn("certificate not reloaded, the old one stays", slog.Any("error", err))
			return
		}
		reloads["ok"].Inc()
		log.Info("certificate reloaded")
	})
}

// Follow looks at the files of a pair that was loaded; it is work for Run.
func Follow(p *certificate.Pair) func(context.Context) error {
	return func(ctx context.Context) error { p.Watch(ctx, certificatePoll); return nil }
}
