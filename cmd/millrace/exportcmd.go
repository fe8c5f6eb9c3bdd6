package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/internal/ledger/export"
)

// exportCmd writes the recording to Parquet files.
type exportCmd struct {
	adminAt  `embed:""`
	Out      string        `name:"out" required:"" placeholder:"DIR" help:"Folder for the files; each dataset has a folder of its own in it."`
	Dataset  []string      `name:"dataset" default:"bundles,bundle_receipts,ledger" help:"What to export: bundles, bundle_receipts, ledger."`
	Since    string        `name:"since" help:"Orders received and records stored since: a time like 2026-11-20T21:00:00Z, or how long ago. Files that are there already are gone on from, whatever is between."`
	Until    string        `name:"until" help:"What was recorded before: a time, or how long ago. The next run goes on there."`
	Follow   bool          `name:"follow" help:"Go on until a signal comes; then everything read is published."`
	Poll     time.Duration `name:"poll" default:"1s" help:"With --follow, how often to look for more."`
	MaxRows  int64         `name:"max-rows" default:"1000000" help:"Most rows of a file."`
	MaxBytes int64         `name:"max-bytes" default:"256MiB" type:"bytes" help:"Most bytes of a file, about."`
	MaxAge   time.Duration `name:"max-age" default:"5m" help:"With --follow, how long a file's first row may wait for the file to be finished."`
	Builder  string        `name:"builder-name" help:"Name of this builder in the rows. Default: node.name of the process that is asked."`
	Progress time.Duration `name:"progress" default:"5s" help:"How often to tell on standard error how far it is; 0: never."`
	JSON     bool          `name:"json" help:"Print the closing report as JSON."`
}

// Help is the long help text.
func (exportCmd) Help() string {
	return `Reads the recorded orders and the terminal records through a running process's admin listener and writes Parquet files: "bundles" and "bundle_receipts" with the columns of FlowProxy's tables, "ledger" with one row for each terminal record. A file that ends in .parquet is complete, whatever happens to this process. A run goes on where the newest files end; leave at least those in place.

Exit code 1 also when something was given up by age or size before it was exported; the report says what.

Example: millrace export --out recording --follow`
}

// exportMemory is the soft limit of an export's memory: it needs 60 MB, most of them for compression.
const exportMemory = 160 << 20

var (
	errMissed = errors.New("something was given up before it was exported")
	errHalted = errors.New("export was broken off; what it had read is published")
)

// Run exports, and prints the report whatever happened.
func (c *exportCmd) Run(ctx context.Context, a *app) error {
	cfg, err := c.config(a, time.Now())
	if err != nil {
		return usage(err)
	}
	e, err := export.New(cfg, remoteLogs{&c.adminAt})
	if err != nil {
		return usage(err)
	}
	tuneRuntime(Runtime{GOGC: 100, MemoryLimit: exportMemory}, a.environ)
	stop := c.tellProgress(e, a.stderr)
	err = e.Run(ctx)
	stop()
	if errors.Is(err, export.ErrLocked) {
		return err // nothing was done
	}
	rep := e.Report()
	switch {
	case err != nil && ctx.Err() != nil:
		err = errors.Join(errHalted, err)
	case err == nil && rep.Missed():
		err = errMissed
	}
	return errors.Join(printExport(a.stdout, rep, c.JSON), err)
}

func (c *exportCmd) config(a *app, now time.Time) (export.Config, error) {
	cfg := export.Config{
		Out: c.Out, Datasets: c.Dataset, MaxRows: c.MaxRows, MaxBytes: c.MaxBytes, MaxAge: c.MaxAge,
		Builder: c.Builder, Version: build().Version,
		Trouble: func(err error) { fmt.Fprintf(a.stderr, "millrace: %v; trying again\n", err) },
	}
	if c.Follow {
		if c.Poll <= 0 {
			return cfg, errors.New("poll: must be above zero")
		}
		cfg.Poll = c.Poll
	}
	for _, bound := range []struct {
		name, text string
		to         *time.Time
	}{{"since", c.Since, &cfg.Since}, {"until", c.Until, &cfg.Until}} {
		if bound.text == "" {
			continue
		}
		t, err := parseMoment(bound.name, bound.text, now)
		if err != nil {
			return cfg, err
		}
		*bound.to = t
	}
	return cfg, nil
}

// tellProgress says how far the export is until the returned function is called.
func (c *exportCmd) tellProgress(e *export.Exporter, w io.Writer) (stop func()) {
	if c.Progress <= 0 {
		return func() {}
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(c.Progress)
		defer t.Stop()
		before := e.Report()
		for {
			select {
			case <-end:
				return
			case <-t.C:
			}
			r := e.Report()
			rate := float64(r.Rows()-before.Rows()) / (r.Took - before.Took).Seconds()
			fmt.Fprintf(w, "export: %d rows, %.0f/s, %d messages to go\n", r.Rows(), rate, r.Behind)
			before = r
		}
	}()
	return func() { close(end); <-ended }
}

func printExport(w io.Writer, r *export.Report, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	t := newTable(w, "DATASET", "LOG", "ROWS", "FILES", "BYTES", "UP TO", "WITHOUT A ROW")
	for i := range r.Datasets {
		s := &r.Datasets[i]
		var skipped []string
		for _, why := range slices.Sorted(maps.Keys(s.Skipped)) {
			skipped = append(skipped, fmt.Sprintf("%s %d", why, s.Skipped[why]))
		}
		t.row(s.Dataset, s.Log, s.Rows, s.Files, s.Bytes, s.Position, strings.Join(skipped, ", "))
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, l := range r.Absent {
		fmt.Fprintf(w, "log %s is not kept there\n", l)
	}
	for i := range r.Datasets {
		for _, m := range r.Datasets[i].Missed {
			fmt.Fprintf(w, "missed by %s: sequences %d to %d of %s\n", r.Datasets[i].Dataset, m.First, m.Last, r.Datasets[i].Log)
		}
	}
	_, err := fmt.Fprintf(w, "%d rows in %s, %.0f/s\n", r.Rows(), r.Took.Round(time.Millisecond), float64(r.Rows())/r.Took.Seconds())
	return err
}

// remoteLogs reads logs through an admin listener.
type remoteLogs struct{ at *adminAt }

// Read implements export.Reader.
func (l remoteLogs) Read(ctx context.Context, log export.Log, from uint64, since time.Time, open func(export.Span) error, each func(*export.Message) error) (uint64, error) {
	q := url.Values{"log": {log.String()}, "from": {strconv.FormatUint(from, 10)}}
	if !since.IsZero() {
		q.Set("since", since.UTC().Format(time.RFC3339Nano))
	}
	resp, err := l.at.do(ctx, http.MethodGet, "/export?"+q.Encode(), "export")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	in := bufio.NewReaderSize(resp.Body, 64<<10)
	f, err := readFrame(in)
	switch {
	case err != nil:
		return 0, err
	case f.kind == frameNone:
		return 0, fmt.Errorf("%w: %s", export.ErrNoLog, log)
	case f.kind != frameHead:
		return 0, fmt.Errorf("%w: %q comes first", errFrame, f.kind)
	}
	span, err := f.span()
	if err != nil {
		return 0, err
	}
	if err := open(span); err != nil {
		return 0, err
	}
	return readMessages(in, each)
}

func readMessages(in *bufio.Reader, each func(*export.Message) error) (first uint64, err error) {
	for {
		f, err := readFrame(in)
		if err != nil {
			return 0, err
		}
		switch f.kind {
		case frameOrder, frameBatch:
			m, err := f.message()
			if err != nil {
				return 0, err
			}
			if err := each(m); err != nil {
				return 0, err
			}
		case frameEnd:
			first := f.number()
			return first, f.fault()
		default:
			return 0, fmt.Errorf("%w: %q", errFrame, f.kind)
		}
	}
}
