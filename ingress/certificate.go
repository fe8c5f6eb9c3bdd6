package ingress

import (
	"context"
	"log/slog"
	"time"
)

// watchCertificate looks at the files now and then, so that the metrics tell of broken ones before a
// client does.
func (s *Server) watchCertificate(ctx context.Context) {
	tick := time.NewTicker(certificatePoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.certificate.Refresh()
	}
}

// certificateChanged hears of changes of state only.
func (s *Server) certificateChanged(err error) {
	ctx := context.Background() // news of the files belongs to no request
	if err != nil {
		s.metrics.reloads["failed"].Inc()
		s.log.LogAttrs(ctx, slog.LevelWarn, "certificate not reloaded, the old one stays", slog.Any("error", err))
		return
	}
	s.metrics.reloads["ok"].Inc()
	s.log.LogAttrs(ctx, slog.LevelInfo, "certificate reloaded")
}
