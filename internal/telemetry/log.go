package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"
)

// LogConfig says how much is logged and in which form. Keys under log.*.
type LogConfig struct {
	Level  string `name:"level" help:"What is logged: lines of this level and above." default:"info" enum:"debug,info,warn,error"`
	Format string `name:"format" help:"Form of a log line: auto is text on a terminal and json elsewhere." default:"auto" enum:"auto,text,json"`
}

// Validate reports an unknown level or format.
func (c LogConfig) Validate() error {
	var l slog.Level
	if err := l.UnmarshalText([]byte(c.Level)); err != nil {
		return fmt.Errorf("log.level: %w", err)
	}
	switch c.Format {
	case "auto", "text", "json":
		return nil
	default:
		return fmt.Errorf("log.format: %q is not auto, text or json", c.Format)
	}
}

// Log is a logger whose level can change.
type Log struct {
	*slog.Logger
	level *slog.LevelVar
}

// NewLog returns a logger that writes lines to w.
func NewLog(w io.Writer, c LogConfig) (*Log, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	l := &Log{level: new(slog.LevelVar)}
	l.SetLevel(c.Level)
	o := &slog.HandlerOptions{Level: l.level}
	if c.Format == "json" || c.Format == "auto" && !isTerminal(w) {
		l.Logger = slog.New(slog.NewJSONHandler(w, o))
		return l, nil
	}
	o.ReplaceAttr = shortTime
	l.Logger = slog.New(slog.NewTextHandler(w, o))
	return l, nil
}

// SetLevel changes what is logged from now on; an unknown level changes nothing.
func (l *Log) SetLevel(level string) {
	var v slog.Level
	if v.UnmarshalText([]byte(level)) == nil {
		l.level.Set(v)
	}
}

// shortTime leaves out what a human at a terminal knows: the date and the zone.
func shortTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		if t, ok := a.Value.Any().(time.Time); ok {
			return slog.String(slog.TimeKey, t.Format("15:04:05.000"))
		}
	}
	return a
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0
}
