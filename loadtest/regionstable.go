package loadtest

import (
	"fmt"
	"io"
	"time"

	"millrace/loadtest/regions"
)

var _ Printable = (*RegionsReport)(nil)

// WriteJSON writes the report as one JSON object.
func (r *RegionsReport) WriteJSON(w io.Writer) error { return encode(w, r) }

// WriteTable writes the report for people: the doors, the links, what happened.
func (r *RegionsReport) WriteTable(w io.Writer) error {
	t := newTable(w)
	t.line("door\tsent\tper s\taccepted\trefused\tshed\tother\tanswer p50\tp99\tp99.9\tmax")
	for _, f := range r.Doors {
		other := f.Sent - f.Answers["accepted"] - f.Answers["refused"] - f.Answers["shed"]
		t.line("%s\t%d\t%.0f\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s", f.Name, f.Sent, f.Rate, f.Answers["accepted"], f.Answers["refused"], f.Answers["shed"], other,
			us(f.Answer.P50), us(f.Answer.P99), us(f.Answer.P999), us(f.Answer.Max))
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(w)
	if err := r.writeLatencies(w); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(w)
	t = newTable(w)
	t.line("link\taccepted\tdelivered\tlost\tduplicate\trepeated\tbytes\tmean\tpeak\tconnections\tresets")
	for i := range r.Links {
		l := &r.Links[i]
		t.line("%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%d\t%d", l.name(), l.Accepted, l.Delivered, l.Lost, l.Duplicates, l.Repeats,
			l.Bytes, bits(l.Bandwidth), bits(l.Peak), l.Connections, l.Resets)
	}
	if err := t.flush(); err != nil {
		return err
	}
	r.writeRest(w)
	return nil
}

// writeLatencies is a line for the orders of each link, one for the echo and one for the difference.
func (r *RegionsReport) writeLatencies(w io.Writer) error {
	t := newTable(w)
	t.line("link\twhat\tcount\tp50\tp90\tp99\tp99.9\tmax")
	line := func(name, what string, l Latency) {
		t.line("%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s", name, what, l.Count, us(l.P50), us(l.P90), us(l.P99), us(l.P999), us(l.Max))
	}
	for i := range r.Links {
		l := &r.Links[i]
		line(l.name(), "orders", l.Orders)
		if l.crosses() {
			line(l.name(), "echo", l.Echo)
		}
		if l.crosses() && l.Orders.Count > 0 {
			b := l.Beyond
			t.line("%s\tbeyond the echo\t\t%s\t%s\t%s\t%s\t", l.name(), us(b.P50), us(b.P90), us(b.P99), us(b.P999))
		}
	}
	return t.flush()
}

func (r *RegionsReport) writeRest(w io.Writer) {
	for _, e := range r.Events {
		_, _ = fmt.Fprintf(w, "%s: %s\n", e.At.Round(time.Millisecond), told(e))
	}
	if r.CPU > 0 {
		_, _ = fmt.Fprintf(w, "nodes: CPU %s, %s per accepted order; peak RSS %d MB\n", r.CPU, r.PerOrder.Round(time.Microsecond), r.PeakRSS/1e6)
	}
	_, _ = fmt.Fprintf(w, "generator, sinks and links: %s CPU, %s an order, %.2f cores; of which links %s\n",
		r.Generator.CPU, r.Generator.PerOrder.Round(time.Microsecond), r.Generator.Cores, r.LinksCPU)
	writeWarnings(w, r.Generator.Warnings)
	verdict := "everything arrived everywhere, once"
	if err := r.Err(); err != nil {
		verdict = err.Error()
	}
	_, _ = fmt.Fprintln(w, verdict)
}

// told is an event in words.
func told(e regions.Event) string {
	if e.Error != "" {
		return e.What + ", which failed: " + e.Error
	}
	return e.What
}

// bits is a bandwidth for people.
func bits(perSecond float64) string {
	if perSecond == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f Mbit/s", perSecond/1e6)
}
