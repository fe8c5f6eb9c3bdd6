package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"millrace/internal/bus"
	"millrace/internal/bus/enginelog"
	calls "millrace/internal/engineapi/record"
	"millrace/internal/telemetry"
)

// engineLine is one record on the page /engine/record: a frame of package record, with its place.
type engineLine struct {
	Stream uint64    `json:"stream"`
	Stored time.Time `json:"stored"`
	Frame  []byte    `json:"frame"`
	// Lost is instead of a record what can't be read in its place.
	Lost *calls.Lost `json:"lost,omitempty"`
}

// maxEngineLine bounds a line of the page: a request of 128 MiB in base64.
const maxEngineLine = 200 << 20

// engineSpan is what the record holds.
type engineSpan struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// recordPage streams the record from ?from= on as JSON lines, or says with ?span what it holds.
func (e *engineRole) recordPage(w http.ResponseWriter, r *http.Request) {
	q := queryOf(r)
	if r.URL.Query().Has("span") {
		span, err := e.record.Span(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		writeJSON(w, engineSpan{First: span.First, Last: span.Last})
		return
	}
	from := q.from()
	if since := q.instant("since"); q.err == nil && !since.IsZero() && from == 0 {
		from, q.err = e.record.At(r.Context(), since)
	}
	if q.err != nil {
		http.Error(w, q.err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	var fault error
	record, err := e.reader.Log("", func(l enginelog.Loss) {
		lost := lostOf(l)
		fault = errors.Join(fault, enc.Encode(engineLine{Stream: l.From, Lost: &lost}))
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	err = record.Read(r.Context(), from, func(entry calls.Entry) error {
		line := engineLine{Stream: entry.Stream, Stored: entry.Stored}
		if entry.Request != nil {
			line.Frame = entry.Request.Encode()
		} else {
			line.Frame = entry.Outcome.Encode()
		}
		return enc.Encode(line)
	})
	if err = errors.Join(err, fault); err == nil {
		err = out.Flush()
	}
	if err != nil {
		breakOff(r, func(ctx context.Context) {
			e.log.LogAttrs(ctx, slog.LevelWarn, "engine record could not be read to its end", slog.Any("error", err))
		})
	}
}

// engineRecord is the record as commands read it: replayer.Log, and places in time.
type engineRecord interface {
	Read(ctx context.Context, from uint64, f func(calls.Entry) error) error
	Follow(ctx context.Context, from uint64, f func(calls.Entry) error) error
	First(ctx context.Context) (uint64, error)
	Last(ctx context.Context) (uint64, error)
	At(ctx context.Context, t time.Time) (uint64, error)
	close()
}

// engineFrom says where a command finds the record.
type engineFrom struct {
	engineAt `embed:""`
	Store    string `name:"store" placeholder:"DIR" help:"Read the store of a process that is not running: its nats.store_dir."`
	File     string `name:"file" placeholder:"FILE" help:"Read calls and answers from a file of JSON lines instead of a record."`

	// lost is told what can't be read, in its place; nil: nobody is.
	lost func(calls.Lost)
}

// open finds the record: a file, a store, the server of nats.url, else the admin listener.
func (c *engineFrom) open(ctx context.Context, a *app, cfg *Config) (engineRecord, error) {
	log, err := telemetry.NewLog(a.stderr, telemetry.LogConfig{Level: "error", Format: cfg.Log.Format})
	if err != nil {
		return nil, usage(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	lost := c.lost
	if lost == nil {
		lost = func(calls.Lost) {}
	}
	var b *bus.Bus
	switch {
	case c.File != "":
		return openCapture(c.File, lost)
	case c.Store != "":
		b, err = bus.OpenStore(ctx, c.Store, quiet)
	case cfg.NATS.URL != "":
		if err := cfg.NATS.Validate(); err != nil {
			return nil, usage(err)
		}
		b, err = bus.Dial(ctx, cfg.NATS, cfg.topology(), log.Logger, telemetry.NewRegistry(build()))
	default:
		return &pageRecord{at: &c.engineAt, lost: lost}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	l, err := enginelog.NewReader(b, quiet, telemetry.NewRegistry(build())).Log("", func(l enginelog.Loss) { lost(lostOf(l)) })
	if err != nil {
		b.Close() //nolint:contextcheck // closing has bounds of its own
		return nil, err
	}
	return &busRecord{Log: l, bus: b}, nil
}

// busRecord is a record on a bus.
type busRecord struct {
	*enginelog.Log
	bus *bus.Bus
}

func (r *busRecord) close() { r.bus.Close() }

// errNoFollow: commands read a record up to its end.
var errNoFollow = errors.New("this record can't be followed")

// pageRecord reads through a running process's admin listener.
type pageRecord struct {
	at   *engineAt
	lost func(calls.Lost)
}

// Read calls f with each entry.
func (r *pageRecord) Read(ctx context.Context, from uint64, f func(calls.Entry) error) error {
	resp, err := r.at.do(ctx, http.MethodGet, "/engine/record?from="+strconv.FormatUint(max(from, 1), 10), "read record")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	in := bufio.NewReaderSize(resp.Body, 1<<16)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > maxEngineLine {
			return fmt.Errorf("read record: %w", calls.ErrRecord)
		}
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read record: %w", err)
		}
		var l engineLine
		if err := json.Unmarshal(line, &l); err != nil {
			return fmt.Errorf("read record: %w", err)
		}
		if l.Lost != nil {
			r.lost(*l.Lost)
			continue
		}
		e, err := calls.Decode(l.Frame)
		if err != nil {
			return fmt.Errorf("read record: %w", err)
		}
		e.Stream, e.Stored = l.Stream, l.Stored
		if err := f(e); err != nil {
			return err
		}
	}
}

// Follow is not for a page.
func (r *pageRecord) Follow(context.Context, uint64, func(calls.Entry) error) error {
	return errNoFollow
}

// First is the oldest sequence.
func (r *pageRecord) First(ctx context.Context) (uint64, error) {
	var span engineSpan
	err := r.at.read(ctx, "/engine/record?span", "read record", &span)
	return span.First, err
}

// Last is the newest sequence.
func (r *pageRecord) Last(ctx context.Context) (uint64, error) {
	var span engineSpan
	err := r.at.read(ctx, "/engine/record?span", "read record", &span)
	return span.Last, err
}

// At is the first sequence stored at or after t.
func (r *pageRecord) At(ctx context.Context, t time.Time) (uint64, error) {
	var found uint64
	resp, err := r.at.do(ctx, http.MethodGet, "/engine/record?"+url.Values{"since": {t.UTC().Format(time.RFC3339Nano)}}.Encode(), "read record")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var l engineLine
	if err := json.NewDecoder(resp.Body).Decode(&l); err == nil {
		found = l.Stream
	} else if !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("read record: %w", err)
	}
	if found == 0 {
		last, err := r.Last(ctx)
		return last + 1, err
	}
	return found, nil
}

func (r *pageRecord) close() {}
