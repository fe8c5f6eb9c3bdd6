package main

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"millrace/egress/replay"
	"millrace/internal/bus"
	"millrace/internal/order"
)

// recordKeeper has the record of orders.
type recordKeeper interface {
	RecordSpan(ctx context.Context) (bus.RecordSpan, error)
	Record(ctx context.Context, r bus.RecordRange, f func(order.Delivery) error) error
}

// recordSpan is the answer to /record?span.
type recordSpan struct {
	First    uint64    `json:"first"`
	Last     uint64    `json:"last"`
	Messages uint64    `json:"messages"`
	Bytes    uint64    `json:"bytes"`
	FirstAt  time.Time `json:"first_stored_at,omitzero"`
	LastAt   time.Time `json:"last_stored_at,omitzero"`
}

// recordPage streams recorded orders as JSON lines (replay.AppendLine): those received ?since= (a time
// or how long ago) and before ?until=, from the sequence ?from= on; ?span tells what there is. A
// reader that got everything sees the response end; otherwise the connection is cut.
func recordPage(from recordKeeper, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		span, err := from.RecordSpan(r.Context())
		if err != nil {
			status := http.StatusServiceUnavailable
			if errors.Is(err, bus.ErrNoRecord) {
				status = http.StatusNotFound
			}
			http.Error(w, err.Error(), status)
			return
		}
		if r.URL.Query().Has("span") {
			writeJSON(w, recordSpan(span))
			return
		}
		q := queryOf(r)
		rng := bus.RecordRange{Since: q.moment("since"), Until: q.moment("until"), From: q.from()}
		if q.err != nil {
			http.Error(w, q.err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		if err := writeRecord(r.Context(), w, from, rng); err != nil {
			breakOff(r, func(ctx context.Context) {
				log.LogAttrs(ctx, slog.LevelWarn, "record could not be read to its end", slog.Any("error", err))
			})
		}
	})
}

func writeRecord(ctx context.Context, w http.ResponseWriter, from recordKeeper, rng bus.RecordRange) error {
	out := bufio.NewWriterSize(w, 64<<10)
	var line []byte
	err := from.Record(ctx, rng, func(d order.Delivery) error {
		line = replay.AppendLine(line[:0], &d)
		_, err := out.Write(line)
		return err
	})
	if err != nil {
		return err
	}
	return out.Flush()
}
