package loadtest

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latency is a summary of one histogram, in microseconds.
type Latency struct {
	Count int64 `json:"count"`
	P50   int64 `json:"p50_us"`
	P90   int64 `json:"p90_us"`
	P99   int64 `json:"p99_us"`
	P999  int64 `json:"p999_us"`
	Max   int64 `json:"max_us"`
}

// newHistogram spans a microsecond to ten minutes with three digits.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(10*time.Minute/time.Microsecond), 3)
}

func record(h *hdrhistogram.Histogram, d time.Duration) {
	// The only error is a value beyond the range, which is then its upper end.
	if h.RecordValue(max(d.Microseconds(), 1)) != nil {
		_ = h.RecordValue(h.HighestTrackableValue())
	}
}

func summarize(h *hdrhistogram.Histogram) Latency {
	return Latency{
		Count: h.TotalCount(), P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90), P99: h.ValueAtQuantile(99),
		P999: h.ValueAtQuantile(99.9), Max: h.Max(),
	}
}

// FlowReport is what happened to one flow.
type FlowReport struct {
	Name    string         `json:"name"`
	Sent    int            `json:"sent"`
	Rate    float64        `json:"rate"` // answers per second
	Answers map[string]int `json:"answers"`
	// Answer is request to answer; from the intended time when no connection was free.
	Answer Latency `json:"answer"`
	// Wire is from the same moment to the sink's receipt (the body read there), of accepted orders.
	Wire    Latency `json:"wire_to_wire"`
	// Wakeup is how late the generator itself was with the orders whose connection was free; no part
	// of the latencies. Queued is how many found no connection free; Queue is their wait, which is.
	Wakeup  Latency `json:"generator_wakeup"`
	Queued  int     `json:"queued"`
	Queue   Latency `json:"queue_wait"`
	Bytes   int64   `json:"bytes"`
	Txs     int     `json:"txs"`
	Repeats float64 `json:"repeated_share"` // of the transactions, in an earlier order of the flow
}

// Report is what a run found. Times are of the generator's clock.
type Report struct {
	Started  time.Time     `json:"started"`
	Elapsed  time.Duration `json:"elapsed_ns"`
	Flows    []FlowReport  `json:"flows"`
	CPU      time.Duration `json:"cpu_ns,omitempty"`           // of the watched processes, during the run
	PerOrder time.Duration `json:"cpu_per_order_ns,omitempty"` // by accepted orders
	PeakRSS  int64         `json:"peak_rss_bytes,omitempty"`
	Check    *Verification `json:"check,omitempty"`
}

// WriteJSON writes the report as one JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(tw, format+"\n", args...) }
	line("flow\tsent\tper s\taccepted\trefused\tshed\tother\tanswer p50\tp99\tp99.9\tmax\twire p50\tp99\tp99.9\tmax\t")
	for _, f := range r.Flows {
		other := f.Sent - f.Answers["accepted"] - f.Answers["refused"] - f.Answers["shed"]
		line("%s\t%d\t%.0f\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t", f.Name, f.Sent, f.Rate,
			f.Answers["accepted"], f.Answers["refused"], f.Answers["shed"], other,
			us(f.Answer.P50), us(f.Answer.P99), us(f.Answer.P999), us(f.Answer.Max),
			us(f.Wire.P50), us(f.Wire.P99), us(f.Wire.P999), us(f.Wire.Max))
	}
	if err := tw.Flush(); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if r.CPU > 0 {
		_, _ = fmt.Fprintf(w, "CPU %s, %s per accepted order; peak RSS %d MB\n", r.CPU, r.PerOrder.Round(time.Microsecond), r.PeakRSS>>20)
	}
	if r.Check != nil {
		verdict := "every promise kept"
		if err := r.Check.Err(); err != nil {
			verdict = err.Error()
		}
		_, _ = fmt.Fprintf(w, "%d accepted, %d taken, %d repeated, outcomes %v: %s\n", r.Check.Accepted, r.Check.Taken, r.Check.Repeated, r.Check.Outcomes, verdict)
	}
	return nil
}

func us(n int64) string {
	return (time.Duration(n) * time.Microsecond).Round(10 * time.Microsecond).String()
}

// Summarize makes a report of results and receipts; names are the flows', by tag number.
func Summarize(names []string, results []Result, receipts []Receipt) *Report {
	rep := &Report{}
	seen := make(map[Tag]time.Time, len(receipts))
	for _, r := range receipts {
		if _, ok := seen[r.Tag]; r.Tagged && !ok {
			seen[r.Tag] = r.At
		}
	}
	for i, name := range names {
		rep.Flows = append(rep.Flows, summarizeFlow(name, uint16(i), results, seen))
	}
	return rep
}

func summarizeFlow(name string, flow uint16, results []Result, seen map[Tag]time.Time) FlowReport {
	f := FlowReport{Name: name, Answers: map[string]int{}}
	answer, wire, wakeup, queue := newHistogram(), newHistogram(), newHistogram(), newHistogram()
	var first, last time.Time
	repeats := 0
	for _, r := range results {
		if r.Tag.Flow != flow {
			continue
		}
		f.Sent++
		f.Answers[r.Answer.String()]++
		f.Bytes += int64(r.Size)
		f.Txs += r.Txs
		repeats += r.Repeats
		if first.IsZero() || r.Sent.Before(first) {
			first = r.Sent
		}
		if r.Done.After(last) {
			last = r.Done
		}
		if r.Scheduled {
			record(wakeup, r.Late)
		}
		if r.Waited > 0 {
			f.Queued++
			record(queue, r.Waited)
		}
		if r.Answer == AnswerAccepted {
			record(answer, r.Latency)
			if at, ok := seen[r.Tag]; ok {
				record(wire, at.Sub(r.Done.Add(-r.Latency)))
			}
		}
	}
	if f.Txs > 0 {
		f.Repeats = float64(repeats) / float64(f.Txs)
	}
	if d := last.Sub(first).Seconds(); d > 0 {
		f.Rate = float64(f.Sent) / d
	}
	f.Answer, f.Wire, f.Wakeup, f.Queue = summarize(answer), summarize(wire), summarize(wakeup), summarize(queue)
	return f
}
