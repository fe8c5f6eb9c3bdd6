package ingress

import (
	"context"
	"log/slog"
)

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
