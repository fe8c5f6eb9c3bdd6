package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	replayer "millrace/egress/engine"
	door "millrace/ingress/engine"
	"millrace/internal/bus/enginelog"
	"millrace/internal/telemetry"
)

// engineStatus is the page /engine.
type engineStatus struct {
	Primary string            `json:"primary"`
	Clients []replayer.Status `json:"clients"`
}

// engineReport is the page /engine/report.
type engineReport struct {
	Primary     string             `json:"primary"`
	Clients     []engineComparison `json:"clients"`
	Divergences []engineDivergence `json:"divergences"`
}

// engineComparison is one client's, since the start of the process.
type engineComparison struct {
	replayer.Status
	// Compared counts calls by class; those of a secondary that it was not sent are not_compared.
	Compared map[string]uint64 `json:"compared"`
	// HeadState counts samples of the head by class, see engine.replay.head_state_every.
	HeadState map[string]uint64 `json:"head_state"`
	// Latency and PrimaryLatency are of the same live calls.
	Latency        latencies `json:"latency"`
	PrimaryLatency latencies `json:"primary_latency"`
}

// latencies are upper bounds of the histogram's buckets, seconds.
type latencies struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50_seconds"`
	P99   float64 `json:"p99_seconds"`
}

// engineDivergence is a stored event.
type engineDivergence struct {
	Stored    time.Time       `json:"stored"`
	Secondary string          `json:"secondary"`
	Event     json.RawMessage `json:"event"`
}

// maxDivergences bounds a report; the newest are shown.
const maxDivergences = 200

// enginePages are the admin pages of the Engine API.
func (p *process) enginePages() []telemetry.Page {
	e := p.engine
	if e == nil {
		return nil
	}
	return []telemetry.Page{
		{Pattern: "GET /engine", Access: telemetry.AccessRead, Handler: http.HandlerFunc(e.statusPage)},
		{Pattern: "GET /engine/report", Access: telemetry.AccessRead, Handler: e.reportPage(p.reg)},
		{Pattern: "POST /engine/promote", Access: telemetry.AccessWrite, Handler: e.changePage("promote", func(r *http.Request) error {
			return e.promote(r.Context(), r.FormValue("name"))
		})},
		{Pattern: "POST /engine/mode", Access: telemetry.AccessWrite, Handler: e.changePage("mode", func(r *http.Request) error {
			return e.setMode(r.Context(), r.FormValue("name"), r.FormValue("mode"))
		})},
		// What a builder proposes before it is public.
		{Pattern: "GET /engine/record", Access: telemetry.AccessWrite, Handler: http.HandlerFunc(e.recordPage)},
	}
}

func (e *engineRole) primaryNow() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.primary
}

// sorted are the statuses, the primary's first.
func (e *engineRole) sorted() []replayer.Status {
	all := e.statuses()
	out := make([]replayer.Status, 0, len(all))
	for _, s := range all {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b replayer.Status) int {
		if a.Role != b.Role {
			return int(b.Role) - int(a.Role)
		}
		return strings.Compare(a.Target, b.Target)
	})
	return out
}

func (e *engineRole) statusPage(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, engineStatus{Primary: e.primaryNow(), Clients: e.sorted()})
}

// changePage makes a change; a caller that goes away does not break it off.
func (e *engineRole) changePage(what string, change func(*http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := context.WithoutCancel(r.Context())
		err := change(r.WithContext(ctx))
		status := http.StatusServiceUnavailable
		switch {
		case err == nil:
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, _ = w.Write([]byte("OK\n"))
			return
		case errors.Is(err, errNoClient):
			status = http.StatusNotFound
		case errors.Is(err, errUsage):
			status = http.StatusBadRequest
		case errors.Is(err, errIsPrimary), errors.Is(err, errNotInSync), errors.Is(err, door.ErrOtherSecret):
			status = http.StatusConflict
		}
		e.log.LogAttrs(ctx, slog.LevelWarn, "engine change refused", slog.String("what", what), slog.String("name", r.FormValue("name")), slog.Any("error", err))
		http.Error(w, err.Error(), status)
	})
}

// reportPage compares since the process started; divergences are those stored since ?since=.
func (e *engineRole) reportPage(reg prometheus.Gatherer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := queryOf(r)
		since, err := parseSince(q.text("since"), q.now)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		report := engineReport{Primary: e.primaryNow(), Divergences: []engineDivergence{}}
		families, err := reg.Gather()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		for _, s := range e.sorted() {
			report.Clients = append(report.Clients, comparison(s, families))
		}
		err = e.divergences.Read(r.Context(), since, func(d enginelog.Divergence) error {
			report.Divergences = append(report.Divergences, engineDivergence{Stored: d.Stored, Secondary: d.Secondary, Event: d.Event})
			if len(report.Divergences) > maxDivergences {
				report.Divergences = report.Divergences[1:]
			}
			return nil
		})
		if err != nil && !errors.Is(err, enginelog.ErrNoLog) {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		writeJSON(w, report)
	})
}

// comparison reads a client's figures from the metrics.
func comparison(s replayer.Status, families []*dto.MetricFamily) engineComparison {
	c := engineComparison{Status: s, Compared: map[string]uint64{}, HeadState: map[string]uint64{}}
	sides := map[string]*histogram{"primary": {}, "secondary": {}}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["secondary"] != s.Target {
				continue
			}
			switch f.GetName() {
			case "millrace_engine_compare_total":
				c.Compared[labels["class"]] += uint64(m.GetCounter().GetValue())
			case "millrace_engine_head_state_total":
				c.HeadState[labels["class"]] += uint64(m.GetCounter().GetValue())
			case "millrace_engine_secondary_call_seconds":
				if h := sides[labels["side"]]; h != nil {
					h.add(m.GetHistogram())
				}
			}
		}
	}
	c.Latency, c.PrimaryLatency = sides["secondary"].latencies(), sides["primary"].latencies()
	return c
}

// histogram is the sum of several with the same buckets.
type histogram struct {
	count  uint64
	bounds map[float64]uint64
}

func (h *histogram) add(m *dto.Histogram) {
	if h.bounds == nil {
		h.bounds = map[float64]uint64{}
	}
	h.count += m.GetSampleCount()
	for _, b := range m.GetBucket() {
		h.bounds[b.GetUpperBound()] += b.GetCumulativeCount()
	}
}

func (h *histogram) latencies() latencies {
	return latencies{Count: h.count, P50: h.quantile(.5), P99: h.quantile(.99)}
}

// quantile is the least bound below which the share lies; beyond the last one, that.
func (h *histogram) quantile(share float64) float64 {
	var bounds []float64
	for b := range h.bounds {
		if !math.IsInf(b, 1) {
			bounds = append(bounds, b)
		}
	}
	slices.Sort(bounds)
	if h.count == 0 || len(bounds) == 0 {
		return 0
	}
	want := uint64(math.Ceil(share * float64(h.count)))
	for _, b := range bounds {
		if h.bounds[b] >= want {
			return b
		}
	}
	return bounds[len(bounds)-1]
}
