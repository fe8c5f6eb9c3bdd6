package loadtest

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"
)

// WriteJSON writes the report as one JSON object.
func (r *Report) WriteJSON(w io.Writer) error { return encode(w, r) }

// WriteJSON writes the comparison as one JSON object.
func (c *Comparison) WriteJSON(w io.Writer) error { return encode(w, c) }

// WriteJSON writes the sweep as one JSON object.
func (s *Sweep) WriteJSON(w io.Writer) error { return encode(w, s) }

// table writes aligned columns.
type table struct{ tw *tabwriter.Writer }

func newTable(w io.Writer) table {
	return table{tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)}
}

func (t table) line(format string, args ...any) { _, _ = fmt.Fprintf(t.tw, format+"\t\n", args...) }

func (t table) flush() error {
	if err := t.tw.Flush(); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	t := newTable(w)
	t.line("flow\tsent\tper s\taccepted\trefused\tshed\tother\tanswer p50\tp99\tp99.9\tmax\twire p50\tp99\tp99.9\tmax")
	for _, f := range r.Flows {
		other := f.Sent - f.Answers["accepted"] - f.Answers["refused"] - f.Answers["shed"]
		t.line("%s\t%d\t%.0f\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", f.Name, f.Sent, f.Rate,
			f.Answers["accepted"], f.Answers["refused"], f.Answers["shed"], other,
			us(f.Answer.P50), us(f.Answer.P99), us(f.Answer.P999), us(f.Answer.Max),
			us(f.Wire.P50), us(f.Wire.P99), us(f.Wire.P999), us(f.Wire.Max))
	}
	if err := t.flush(); err != nil {
		return err
	}
	if err := r.writeStages(w); err != nil {
		return err
	}
	if r.CPU > 0 {
		_, _ = fmt.Fprintf(w, "CPU %s, %s per accepted order; peak RSS %d MB\n", r.CPU, r.PerOrder.Round(time.Microsecond), r.PeakRSS/1e6)
	}
	_, _ = fmt.Fprintf(w, "generator: %s CPU an order; woke up %s late at p50, %s at p99; %d orders waited for a connection\n",
		r.Generator.PerOrder.Round(time.Microsecond), us(r.Flows[0].Wakeup.P50), us(r.Flows[0].Wakeup.P99), r.Flows[0].Queued)
	writeWarnings(w, r.Generator.Warnings)
	if r.Check != nil {
		verdict := "every promise kept"
		if err := r.Check.Err(); err != nil {
			verdict = err.Error()
		}
		superseded := ""
		if n := r.Check.Superseded; n > 0 {
			superseded = fmt.Sprintf(", %d superseded (presumed)", n)
		}
		_, _ = fmt.Fprintf(w, "%d accepted, %d taken, %d repeated%s, outcomes %v: %s\n", r.Check.Accepted, r.Check.Taken, r.Check.Repeated, superseded, r.Check.Outcomes, verdict)
	}
	return nil
}

func (r *Report) writeStages(w io.Writer) error {
	if len(r.Stages) == 0 {
		return nil
	}
	t := newTable(w)
	t.line("stage\tcount\tmean\tp50\tp99")
	for _, s := range r.Stages {
		t.line("%s %s\t%d\t%s\t%s\t%s", s.Part, s.Name, s.Count, us(int64(s.Mean)), us(int64(s.P50)), us(int64(s.P99)))
	}
	return t.flush()
}

func writeWarnings(w io.Writer, warnings []string) {
	for _, text := range warnings {
		_, _ = fmt.Fprintf(w, "warning: %s\n", text)
	}
}

// WriteTable writes the comparison for people: each leg, then the medians of ratios.
func (c *Comparison) WriteTable(w io.Writer) error {
	t := newTable(w)
	t.line("pair\ttarget\tsent\taccepted/s\trefused\tshed\tother\tlost\tanswer p50\tp99\twire p50\tp90\tp99\tmax\tCPU/order\tpeak RSS")
	for _, l := range c.Legs {
		r := l.Report
		f := r.Flows[0]
		other := f.Sent - f.Answers["accepted"] - f.Answers["refused"] - f.Answers["shed"]
		t.line("%d\t%s\t%d\t%.0f\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d MB", l.Pair, l.Target, f.Sent, r.acceptedRate(),
			f.Answers["refused"], f.Answers["shed"], other, r.lost(), us(f.Answer.P50), us(f.Answer.P99),
			us(f.Wire.P50), us(f.Wire.P90), us(f.Wire.P99), us(f.Wire.Max), r.PerOrder.Round(time.Microsecond), r.PeakRSS/1e6)
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(w)
	t = newTable(w)
	t.line("measure\ttarget\tmedian\t%s\tmedian of ratios\tfrom\tto\tpairs", c.Base)
	for _, r := range c.Ratios {
		t.line("%s, %s is better\t%s\t%s\t%s\t%.2fx\t%.2fx\t%.2fx\t%d", r.Measure, r.Better, r.Target,
			withUnit(r.TargetMedian, r.Unit), withUnit(r.BaseMedian, r.Unit), r.Median, r.Min, r.Max, len(r.Pairs))
	}
	if err := t.flush(); err != nil {
		return err
	}
	writeWarnings(w, c.Warnings)
	return nil
}

// withUnit is a raw value for people.
func withUnit(v float64, unit string) string {
	switch unit {
	case "µs":
		return us(int64(v))
	case "bytes":
		return fmt.Sprintf("%.0f MB", v/1e6)
	}
	return fmt.Sprintf("%.0f %s", v, unit)
}

// WriteTable writes the sweep for people, a line per point and target.
func (s *Sweep) WriteTable(w io.Writer) error {
	t := newTable(w)
	t.line("%s\ttarget\tsent\taccepted/s\trefused\tshed\tother\tlost\tanswer p50\tp99\twire p50\tp99\tCPU/order\tpeak RSS", s.Variable)
	for _, p := range s.Points {
		for _, l := range p.Legs {
			r := l.Report
			f := r.Flows[0]
			other := f.Sent - f.Answers["accepted"] - f.Answers["refused"] - f.Answers["shed"]
			t.line("%g\t%s\t%d\t%.0f\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%d MB", p.Value, l.Target, f.Sent, r.acceptedRate(),
				f.Answers["refused"], f.Answers["shed"], other, r.lost(), us(f.Answer.P50), us(f.Answer.P99),
				us(f.Wire.P50), us(f.Wire.P99), r.PerOrder.Round(time.Microsecond), r.PeakRSS/1e6)
		}
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(s.Saturation)) {
		st := s.Saturation[name]
		_, _ = fmt.Fprintf(w, "%s kept up with %.0f/s and accepted %.0f/s at most\n", name, st.Kept, st.Peak)
	}
	writeWarnings(w, s.Warnings)
	return nil
}

func us(n int64) string {
	return (time.Duration(n) * time.Microsecond).Round(10 * time.Microsecond).String()
}
