package engine

import (
	"context"
	"crypto/tls"
	"log/slog"
	"time"
)

// certificatePoll is how often the certificate's files are looked at, so that the metrics tell of broken
// ones before a client does.
const certificatePoll = 5 * time.Second

// tlsConfig shows the certificate that is current at each handshake.
func (d *Door) tlsConfig() *tls.Config {
	conf := d.certificate.Config(0)
	conf.NextProtos = []string{"http/1.1"}
	return conf
}

// certificateChanged hears of changes of state only.
func (d *Door) certificateChanged(err error) {
	ctx := context.Background() // news of the files belongs to no request
	if err != nil {
		d.metrics.reloads["failed"].Inc()
		d.log.LogAttrs(ctx, slog.LevelWarn, "engine certificate not reloaded, the old one stays", slog.Any("error", err))
		return
	}
	d.metrics.reloads["ok"].Inc()
	d.log.LogAttrs(ctx, slog.LevelInfo, "engine certificate reloaded")
}
