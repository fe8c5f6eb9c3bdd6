package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"millrace/egress/replay"
	"millrace/internal/bus"
	"millrace/internal/order"
	"millrace/internal/telemetry"
)

// recording is where recorded orders come from.
type recording interface {
	replay.Source
	// last is the last sequence that there is.
	last(ctx context.Context) (uint64, error)
	close()
}

// busRecording reads RECORD from a NATS server, or from the store of a node that does not run.
type busRecording struct{ bus *bus.Bus }

func (s busRecording) Record(ctx context.Context, r replay.Range, f func(order.Delivery) error) error {
	return s.bus.Record(ctx, bus.RecordRange(r), f)
}

func (s busRecording) last(ctx context.Context) (uint64, error) {
	span, err := s.bus.RecordSpan(ctx)
	return span.Last, err
}

func (s busRecording) close() { s.bus.Close() }

// pageRecording reads the record through a running process's admin listener.
type pageRecording struct{ at *adminAt }

func (s pageRecording) Record(ctx context.Context, r replay.Range, f func(order.Delivery) error) error {
	q := url.Values{}
	for name, t := range map[string]time.Time{"since": r.Since, "until": r.Until} {
		if !t.IsZero() {
			q.Set(name, t.UTC().Format(time.RFC3339Nano))
		}
	}
	if r.From > 0 {
		q.Set("from", strconv.FormatUint(r.From, 10))
	}
	resp, err := s.at.do(ctx, http.MethodGet, "/record?"+q.Encode(), "read record")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return readLines(resp.Body, f)
}

func (s pageRecording) last(ctx context.Context) (uint64, error) {
	var span recordSpan
	err := s.at.read(ctx, "/record?span", "read record", &span)
	return span.Last, err
}

func (s pageRecording) close() {}

// readLines calls f with each order of a recording.
func readLines(r io.Reader, f func(order.Delivery) error) error {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 256<<10), replay.MaxLine)
	for in.Scan() {
		d, err := replay.ParseLine(in.Bytes())
		if err != nil {
			return fmt.Errorf("read record: %w", err)
		}
		if err := f(d); err != nil {
			return err
		}
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("read record: %w", err)
	}
	return nil
}

// openRecording decides where the record is: in the store of --store, on the server of nats.url, else
// behind the admin listener.
func (c *replayOrdersCmd) openRecording(ctx context.Context, a *app) (recording, error) {
	cfg := &c.Keys
	// A reader's key is enough, although a look at the whole topology would need more.
	log, err := telemetry.NewLog(a.stderr, telemetry.LogConfig{Level: "error", Format: cfg.Log.Format})
	if err != nil {
		return nil, usage(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	switch {
	case c.Store != "":
		b, err := bus.OpenStore(ctx, c.Store, quiet)
		if err != nil {
			return nil, err
		}
		return busRecording{b}, nil
	case cfg.NATS.URL != "":
		if err := cfg.NATS.Validate(); err != nil {
			return nil, usage(err)
		}
		b, err := bus.Dial(ctx, cfg.NATS, cfg.topology(), log.Logger, telemetry.NewRegistry(build()))
		if err != nil {
			return nil, fmt.Errorf("bus: %w", err)
		}
		return busRecording{b}, nil
	}
	return pageRecording{&c.adminAt}, nil
}
