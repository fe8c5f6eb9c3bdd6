package loadtest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"millrace/loadtest/chart"
)

// page lays out one run.
func (r *Report) page() *page {
	f := r.Flows[0]
	p := &page{
		Kicker: kicker("Load test", r.Started), Title: r.Setup.offered(), Verdict: r.judgement(),
		Warnings: fold(r.Generator.Warnings), Setup: r.Setup.list(),
		Lead: fmt.Sprintf("%s orders in %s.", grouped(f.Sent), r.Elapsed.Round(10*time.Millisecond)),
	}
	l, what := r.latency(), "reached the builder"
	if f.Wire.Count == 0 {
		what = "were answered"
	}
	if l.Count > 0 {
		p.Lead += fmt.Sprintf(" Half of the accepted ones %s within %s, 99 of 100 within %s.", what, chart.Micros(float64(l.P50)), chart.Micros(float64(l.P99)))
	}
	p.Tiles = r.tiles()
	p.add("latency", "How long it takes", r.latencyFigure())
	if r.Series != nil {
		p.add("time", "Over time", r.timeFigure())
	}
	if len(r.Stages) > 0 {
		p.add("stages", "Where the time goes", r.stageFigure())
	}
	if r.Usage != nil && len(r.Usage.Seconds) > 1 {
		p.add("usage", "What it costs", r.usageFigure())
	}
	p.add("answers", "What became of the orders", r.answerFigure())
	return p
}

// tiles are the key figures.
func (r *Report) tiles() []tile {
	l := r.latency()
	out := []tile{
		{"Accepted", chart.Number(r.acceptedRate()) + " /s", grouped(r.Flows[0].Answers["accepted"]) + " orders"},
		{"Latency p50", chart.Micros(float64(l.P50)), "wire to wire"},
		{"Latency p99", chart.Micros(float64(l.P99)), "maximum " + chart.Micros(float64(l.Max))},
	}
	if r.Flows[0].Wire.Count == 0 {
		out[1].Note = "of the answer"
	}
	if r.CPU > 0 {
		out = append(out,
			tile{"CPU per order", chart.Micros(float64(r.PerOrder.Nanoseconds()) / 1e3), "of the target"},
			tile{"Peak memory", chart.Bytes(float64(r.PeakRSS)), "resident, of the target"})
	}
	if r.Check != nil {
		out = append(out, tile{"Lost", grouped(r.lost()), "of " + grouped(r.Check.Accepted) + " accepted"})
	}
	return out
}

func (r *Report) latencyFigure() figure {
	var lines []line
	t := grid{Head: []string{"", "orders", "p50", "p90", "p99", "p99.9", "maximum"}}
	add := func(name, class string, l Latency, curve []Quantile) {
		if l.Count == 0 {
			return
		}
		lines = append(lines, line{name, class, curve, l.Count})
		t.Rows = append(t.Rows, []string{
			name, grouped(int(l.Count)), chart.Micros(float64(l.P50)), chart.Micros(float64(l.P90)), chart.Micros(float64(l.P99)),
			chart.Micros(float64(l.P999)), chart.Micros(float64(l.Max)),
		})
	}
	for i, f := range r.Flows {
		prefix := ""
		if len(r.Flows) > 1 {
			prefix = f.Name + ", "
		}
		add(prefix+"wire to wire", class(2*i), f.Wire, f.WireCurve)
		add(prefix+"answer", class(2*i+1), f.Answer, f.AnswerCurve)
		add(prefix+"generator late", "mute dash", f.Wakeup, f.WakeupCurve)
	}
	return figure{
		Plot: percentilePlot("latency", lines), Table: t,
		Lead: fmt.Sprintf("Each step to the right is ten times rarer. Wire to wire is from the moment an order is sent to the moment the builder has read it. "+
			"%s orders found no connection free; their wait counts. The generator's own late wake-ups are drawn for comparison and are in no other line.", grouped(r.Flows[0].Queued)),
	}
}

func (r *Report) timeFigure() figure {
	s := r.Series
	seconds := make([]float64, len(s.Sent))
	failures := make([]float64, len(s.Sent))
	t := grid{Head: []string{"second", "sent /s", "accepted /s", "delivered /s", "refused /s", "shed /s", "failed /s", "p50", "p99"}}
	for i := range s.Sent {
		seconds[i] = (float64(i) + .5) * s.Step
		failures[i] = s.Shed[i] + s.Failed[i]
		row := []string{fmt.Sprintf("%.2f", float64(i)*s.Step)}
		for _, v := range []float64{s.Sent[i], s.Accepted[i], s.Delivered[i], s.Refused[i], s.Shed[i], s.Failed[i]} {
			row = append(row, chart.Number(v))
		}
		t.Rows = append(t.Rows, append(row, chart.Micros(s.P50[i]), chart.Micros(s.P99[i])))
	}
	strips := []strip{
		{name: "Sent per second", class: "mute", values: s.Sent, label: chart.Number},
		{name: "Accepted per second", class: "c1", values: s.Accepted, label: chart.Number},
	}
	if slices.Max(s.Delivered) > 0 {
		strips = append(strips, strip{name: "Delivered per second", class: "c3", values: s.Delivered, label: chart.Number})
	}
	strips = append(strips,
		strip{name: "Shed or failed per second", class: "bad", values: failures, label: chart.Number, end: grouped(r.failed()) + " in all"},
		strip{name: "Latency, p50 and p99", class: "c2", values: s.P50, second: s.P99, label: chart.Micros, log: true})
	return figure{
		Plot:  timePlot("time", "Throughput and latency over time", "Orders sent, accepted, delivered, and shed or failed per second, and the latency, below each other over the seconds of the run.", seconds, strips),
		Table: t,
		Lead:  fmt.Sprintf("Every point is %.2g seconds. Refused orders (%s) are at fault themselves and are answered as such.", s.Step, grouped(r.Flows[0].Answers["refused"])),
	}
}

// failed counts the orders that were shed or got no answer that tells.
func (r *Report) failed() int {
	n := 0
	for _, f := range r.Flows {
		n += f.Sent - f.Answers["accepted"] - f.Answers["refused"]
	}
	return n
}

func (r *Report) stageFigure() figure {
	t := grid{Head: []string{"stage", "orders", "mean", "p50", "p99"}}
	worst := r.Stages[0]
	for _, s := range r.Stages {
		t.Rows = append(t.Rows, []string{s.Part + " " + s.Name, grouped(int(s.Count)), chart.Micros(s.Mean), chart.Micros(s.P50), chart.Micros(s.P99)}) //nolint:gosec // a count
		if s.Name != "total" && s.Mean > worst.Mean {
			worst = s
		}
	}
	return figure{
		Plot: stagePlot(r.Stages), Table: t,
		Lead: fmt.Sprintf("Read from the target's own histograms before and after, so the values are as fine as its buckets. The longest on average is %s %s, %s.", worst.Part, worst.Name, chart.Micros(worst.Mean)),
	}
}

func (r *Report) usageFigure() figure {
	u := r.Usage
	t := grid{Head: []string{"second", "target, cores", "target, RSS", "generator, cores", "generator, RSS"}}
	rss := make([]float64, len(u.RSS))
	watched := false
	for i := range u.Seconds {
		rss[i] = float64(u.RSS[i])
		watched = watched || u.RSS[i] > 0
		t.Rows = append(t.Rows, []string{
			fmt.Sprintf("%.1f", u.Seconds[i]), fmt.Sprintf("%.2f", u.Cores[i]), chart.Bytes(rss[i]),
			fmt.Sprintf("%.2f", u.GeneratorCPU[i]), chart.Bytes(float64(u.GeneratorRSS[i])),
		})
	}
	cores := func(v float64) string { return chart.Number(v) }
	strips := []strip{{name: "Generator, cores busy", class: "mute", values: u.GeneratorCPU, label: cores}}
	if watched {
		strips = append([]strip{
			{name: "Target, cores busy", class: "c1", values: u.Cores, label: cores},
			{name: "Target, resident memory", class: "c3", values: rss, label: chart.Bytes},
		}, strips...)
	}
	return figure{
		Plot:  timePlot("usage", "CPU and memory over time", "Busy cores and resident memory of the target's processes and busy cores of the generator over the seconds of the run.", u.Seconds, strips),
		Table: t,
		Lead: fmt.Sprintf("The generator, with the builder's sink in it, took %s of CPU an order; the target %s.",
			chart.Micros(float64(r.Generator.PerOrder.Nanoseconds())/1e3), chart.Micros(float64(r.PerOrder.Nanoseconds())/1e3)),
	}
}

func (r *Report) answerFigure() figure {
	t := grid{Head: []string{"what", "orders"}}
	for _, f := range r.Flows {
		for _, a := range slices.Sorted(maps.Keys(f.Answers)) {
			t.Rows = append(t.Rows, []string{"answered: " + a, grouped(f.Answers[a])})
		}
	}
	lead := "No sink was there, so only the answers are known."
	if c := r.Check; c != nil {
		lead = fmt.Sprintf("%s of %s accepted orders reached the builder; the others have another end, or are lost.", grouped(c.Taken), grouped(c.Accepted))
		for _, o := range slices.Sorted(maps.Keys(c.Outcomes)) {
			t.Rows = append(t.Rows, []string{"recorded: " + o, grouped(c.Outcomes[o])})
		}
		if c.Superseded > 0 {
			t.Rows = append(t.Rows, []string{"superseded (presumed)", grouped(c.Superseded)})
		}
		for _, b := range slices.Sorted(maps.Keys(c.Breaks)) {
			t.Rows = append(t.Rows, []string{"broken: " + string(b), grouped(c.Breaks[b])})
		}
	}
	f := r.Flows[0]
	lead += fmt.Sprintf(" %.0f %% of the transactions had been in an earlier order, %.0f %% in one of the last 36 seconds.", 100*f.Repeats, 100*f.Recent)
	return figure{Table: t, Lead: lead}
}

// grouped prints a count with thin spaces between thousands.
func grouped(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}
