package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"millrace/internal/bus"
	"millrace/internal/ledger/export"
	"millrace/internal/order"
	"millrace/subjects"
)

// recordBus is what an export reads.
type recordBus interface {
	LogSpan(ctx context.Context, stream string) (bus.LogSpan, error)
	Record(ctx context.Context, r bus.RecordRange, f func(order.Delivery) error) error
	LedgerFrom(ctx context.Context, stream string, from, last uint64, since time.Time, f func(bus.LedgerBatch) error) error
}

// busLogs reads logs from a bus.
type busLogs struct {
	bus    recordBus
	node   string
	maxTxs int
}

func streamOf(l export.Log) string {
	switch l {
	case export.LogRecord:
		return subjects.StreamRecord
	case export.LogDone:
		return subjects.StreamDone
	default:
		return subjects.StreamRejected
	}
}

// Read implements export.Reader.
func (b busLogs) Read(ctx context.Context, l export.Log, from uint64, since time.Time, open func(export.Span) error, each func(*export.Message) error) (uint64, error) {
	name := streamOf(l)
	// The span comes first: a reading of RECORD begins by looking where each class ends, so it has
	// all that is in the span, and what it has beyond may have gaps.
	span, err := b.bus.LogSpan(ctx, name)
	if errors.Is(err, bus.ErrNoLog) {
		return 0, fmt.Errorf("%w: %w", export.ErrNoLog, err)
	}
	if err != nil {
		return 0, err
	}
	err = open(export.Span{First: span.First, Last: span.Last, Created: span.Created.UTC(), Node: b.node, MaxTxs: b.maxTxs})
	if err != nil {
		return 0, err
	}
	if span.Last > 0 && from <= span.Last {
		if l == export.LogRecord {
			err = b.orders(ctx, from, span.Last, since, each)
		} else {
			err = b.batches(ctx, name, from, span.Last, since, each)
		}
	}
	if err != nil {
		return 0, err
	}
	after, err := b.bus.LogSpan(ctx, name)
	return after.First, err
}

func (b busLogs) orders(ctx context.Context, from, last uint64, since time.Time, each func(*export.Message) error) error {
	return b.bus.Record(ctx, bus.RecordRange{From: from, Since: since}, func(d order.Delivery) error {
		if d.Sequence > last {
			return nil
		}
		return each(&export.Message{Sequence: d.Sequence, StoredAt: d.StoredAt, Order: d.Order})
	})
}

func (b busLogs) batches(ctx context.Context, stream string, from, last uint64, since time.Time, each func(*export.Message) error) error {
	return b.bus.LedgerFrom(ctx, stream, from, last, since, func(x bus.LedgerBatch) error {
		return each(&export.Message{Sequence: x.Sequence, StoredAt: x.StoredAt, Target: targetOf(x.Subject), Batch: x.Batch})
	})
}

// exportPage streams a log (?log=record, done or rejected) from a sequence (?from=) and a time
// (?since=, RFC 3339) on as frames; see exportwire.go. When reading the store fails, the connection
// is cut.
func exportPage(from export.Reader, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := queryOf(r)
		seq, since := q.from(), q.instant("since")
		l, ok := export.ParseLog(q.text("log"))
		switch {
		case !ok:
			http.Error(w, fmt.Sprintf("log: there is record, done and rejected, not %q", q.text("log")), http.StatusBadRequest)
			return
		case q.err != nil:
			http.Error(w, q.err.Error(), http.StatusBadRequest)
			return
		}
		fw := &frameWriter{out: bufio.NewWriterSize(w, 64<<10)}
		open := func(s export.Span) error {
			w.Header().Set("Content-Type", "application/octet-stream")
			return fw.head(s)
		}
		first, err := from.Read(r.Context(), l, seq, since, open, fw.message)
		switch {
		case errors.Is(err, export.ErrNoLog):
			err = fw.none()
		case err == nil:
			err = fw.finish(first)
		}
		if err != nil {
			breakOff(r, func(ctx context.Context) {
				log.LogAttrs(ctx, slog.LevelWarn, "log could not be exported to its end",
					slog.String("log", l.String()), slog.Any("error", err))
			})
		}
	})
}
