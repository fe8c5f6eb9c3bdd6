package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/time/rate"
)

// serverLog hands the server's log lines on: warnings and errors as such, everything else at debug
// level. It also keeps what the server calls fatal, because the server itself only returns from
// its start-up after such a line.
//
// The server writes a line for each connection that it refuses, so lines above debug level are
// limited; how many were left out is on the next one.
type serverLog struct {
	log     *slog.Logger
	fatal   atomic.Pointer[string]
	limit   *rate.Limiter
	dropped atomic.Int64
}

func newServerLog(log *slog.Logger) *serverLog {
	return &serverLog{log: log, limit: rate.NewLimiter(linesPerSecond, linesAtOnce)}
}

const (
	linesPerSecond = 5
	linesAtOnce    = 50
)

var _ server.Logger = (*serverLog)(nil)

func (l *serverLog) write(level slog.Level, format string, args []any) {
	ctx := context.Background()
	if !l.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{slog.String("text", fmt.Sprintf(format, args...))}
	if level > slog.LevelDebug {
		if !l.limit.Allow() {
			l.dropped.Add(1)
			return
		}
		if n := l.dropped.Swap(0); n > 0 {
			attrs = append(attrs, slog.Int64("dropped_lines", n))
		}
	}
	l.log.LogAttrs(ctx, level, "nats-server", attrs...)
}

// Noticef, Warnf, Errorf, Fatalf, Debugf and Tracef are the server's levels.
func (l *serverLog) Noticef(format string, args ...any) { l.write(slog.LevelDebug, format, args) }

// Warnf logs a warning, but for the ones about our message size and about leafnodes whose certificate is
// judged by us instead of the server, which are meant.
func (l *serverLog) Warnf(format string, args ...any) {
	level := slog.LevelWarn
	if strings.HasPrefix(format, "Maximum payloads over") || strings.HasPrefix(format, "TLS certificate chain and hostname of solicited leafnodes") {
		level = slog.LevelDebug
	}
	l.write(level, format, args)
}

// Errorf logs an error.
func (l *serverLog) Errorf(format string, args ...any) { l.write(slog.LevelError, format, args) }

// Fatalf logs an error and keeps it for Start.
func (l *serverLog) Fatalf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.fatal.CompareAndSwap(nil, &text)
	l.write(slog.LevelError, format, args)
}

// Debugf logs at debug level.
func (l *serverLog) Debugf(format string, args ...any) { l.write(slog.LevelDebug, format, args) }

// Tracef logs at debug level.
func (l *serverLog) Tracef(format string, args ...any) { l.write(slog.LevelDebug, format, args) }
