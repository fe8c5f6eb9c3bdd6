package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"millrace/internal/bus"
)

// targetRow is one target on the targets page, in a JSON array by name.
type targetRow struct {
	Name        string  `json:"name"`
	Fingerprint string  `json:"fingerprint"`
	Served      bool    `json:"served"` // a process has its lease or waits for its orders
	Pending     uint64  `json:"pending"`
	AckPending  int     `json:"ack_pending"`
	Oldest      float64 `json:"oldest_seconds"` // age of the oldest order without a record; 0: none
}

func newTargetRow(s bus.TargetState) targetRow {
	return targetRow{
		Name: s.Name, Fingerprint: s.Fingerprint, Served: served(s), Pending: s.Pending, AckPending: s.AckPending,
		Oldest: s.Oldest.Seconds(),
	}
}

// page lists the targets in the streams.
func (t *targets) page() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all, err := t.bus.Targets(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		rows := make([]targetRow, 0, len(all))
		for _, s := range all {
			rows = append(rows, newTargetRow(s))
		}
		writeJSON(w, rows)
	})
}

// removePage removes the target ?name=. A caller that goes away does not break it off.
func (t *targets) removePage() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := context.WithoutCancel(r.Context())
		name := r.FormValue("name")
		err := t.remove(ctx, name)
		status := http.StatusInternalServerError
		switch {
		case err == nil:
			t.log.LogAttrs(ctx, slog.LevelInfo, "target removed", slog.String("target", name))
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = w.Write([]byte("OK\n"))
			return
		case errors.Is(err, errNoTarget):
			status = http.StatusNotFound
		case errors.Is(err, errTargetServed), errors.Is(err, errRemoving):
			status = http.StatusConflict
		case errors.Is(err, errUnfinished):
			status = http.StatusServiceUnavailable
		}
		t.log.LogAttrs(ctx, slog.LevelWarn, "target not removed", slog.String("target", name), slog.Any("error", err))
		http.Error(w, err.Error(), status)
	})
}
