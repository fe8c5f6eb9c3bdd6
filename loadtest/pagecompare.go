package loadtest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"millrace/loadtest/chart"
)

// page lays out a comparison.
func (c *Comparison) page() *page {
	var rivals []string
	for _, t := range c.Targets {
		if t != c.Base {
			rivals = append(rivals, t)
		}
	}
	pairs := c.Legs[len(c.Legs)-1].Pair
	p := &page{
		Kicker: kicker("Comparison", c.Started), Title: strings.Join(rivals, ", ") + " against " + c.Base,
		Lead:    fmt.Sprintf("%s, measured %d times each, in turn. A ratio is taken in every pair; what counts is their median.", c.Setup.offered(), pairs),
		Verdict: c.judgement(), Warnings: fold(c.Warnings), Setup: c.Setup.list(),
	}
	for _, r := range c.Ratios {
		if slices.Contains([]string{"CPU per accepted order", "wire to wire p50", "wire to wire p99", "accepted orders"}, r.Measure) && len(p.Tiles) < 8 {
			label := r.Measure
			if len(rivals) > 1 {
				label = r.Target + ": " + label
			}
			p.Tiles = append(p.Tiles, tile{label, fmt.Sprintf("%.2f×", r.Median), value(r.TargetMedian, r.Unit) + " against " + value(r.BaseMedian, r.Unit)})
		}
	}
	for i, t := range rivals {
		p.add(fmt.Sprintf("ratios-%d", i+1), "Ratios of "+t+" to "+c.Base, c.ratioFigure(fmt.Sprintf("ratios-%d", i+1), t))
	}
	rows := c.bars()
	t := grid{Head: append([]string{"measure"}, c.Targets...)}
	for _, r := range rows {
		cells := []string{r.measure}
		for _, v := range r.values {
			cells = append(cells, value(v, r.unit))
		}
		t.Rows = append(t.Rows, cells)
	}
	p.add("bars", "Side by side", figure{Plot: barPlot(c.Targets, rows), Table: t, Lead: "Medians of the raw values. Each measure has its own scale, from zero."})
	p.add("latency", "How long it takes", c.latencyFigure())
	p.add("legs", "Every leg", c.legFigure())
	return p
}

// judgement sums up the legs' checks.
func (c *Comparison) judgement() verdict {
	lost, checked := map[string]int{}, false
	for _, l := range c.Legs {
		lost[l.Target] += l.Report.lost()
		checked = checked || l.Report.Check != nil
	}
	if !checked {
		return verdict{"open", "answers only, nothing checked"}
	}
	v := verdict{Class: "good"}
	var parts []string
	for _, t := range c.Targets {
		parts = append(parts, fmt.Sprintf("%s lost %s", t, grouped(lost[t])))
		if lost[t] > 0 {
			v.Class = "bad"
		}
	}
	v.Text = strings.Join(parts, ", ")
	return v
}

func (c *Comparison) ratioFigure(id, target string) figure {
	var own []Ratio
	t := grid{Head: []string{"measure", target, c.Base, "median of ratios", "from", "to", "ratio of every pair"}}
	for _, r := range c.Ratios {
		if r.Target != target {
			continue
		}
		own = append(own, r)
		var raw []string
		for _, v := range r.Pairs {
			raw = append(raw, fmt.Sprintf("%.2f", v.Ratio))
		}
		t.Rows = append(t.Rows, []string{
			r.Measure, value(r.TargetMedian, r.Unit), value(r.BaseMedian, r.Unit), fmt.Sprintf("%.2f×", r.Median),
			fmt.Sprintf("%.2f×", r.Min), fmt.Sprintf("%.2f×", r.Max), strings.Join(raw, "  "),
		})
	}
	return figure{
		Plot: ratioPlot(id, target, c.Base, own), Table: t,
		Lead: fmt.Sprintf("Left of the line %s has less than %s. Less is better for everything but accepted orders per second; the words at the right say which way it went.", target, c.Base),
	}
}

func (c *Comparison) latencyFigure() figure {
	var lines []line
	t := grid{Head: []string{"pair", "target", "orders", "p50", "p90", "p99", "p99.9", "maximum"}}
	last := c.Legs[len(c.Legs)-1].Pair
	for _, l := range c.Legs {
		f := l.Report.Flows[0]
		lat, curve := f.Wire, f.WireCurve
		if lat.Count == 0 {
			lat, curve = f.Answer, f.AnswerCurve
		}
		n := line{class: class(slices.Index(c.Targets, l.Target)) + " thin", points: curve, count: lat.Count}
		if l.Pair == last {
			n.name = l.Target
		}
		lines = append(lines, n)
		t.Rows = append(t.Rows, []string{
			strconv.Itoa(l.Pair), l.Target, grouped(int(lat.Count)), chart.Micros(float64(lat.P50)), chart.Micros(float64(lat.P90)),
			chart.Micros(float64(lat.P99)), chart.Micros(float64(lat.P999)), chart.Micros(float64(lat.Max)),
		})
	}
	return figure{
		Plot: percentilePlot("latency", lines), Table: t,
		Lead: "A line for every leg, so the spread between legs of one target can be seen. Wire to wire where a sink was, else of the answers.",
	}
}

func (c *Comparison) legFigure() figure {
	t := grid{Head: []string{"pair", "target", "sent", "accepted /s", "refused", "shed", "other", "lost", "CPU per order", "peak RSS", "others' cores"}}
	for _, l := range c.Legs {
		t.Rows = append(t.Rows, append([]string{strconv.Itoa(l.Pair), l.Target}, l.cells()...))
	}
	return figure{Table: t, Lead: "In the order in which they ran. The last column is what the idle targets used meanwhile."}
}

// cells are a leg's figures in a table.
func (l Leg) cells() []string {
	r := l.Report
	f := r.Flows[0]
	other := f.Sent - f.Answers["accepted"] - f.Answers["refused"] - f.Answers["shed"]
	return []string{
		grouped(f.Sent), chart.Number(r.acceptedRate()), grouped(f.Answers["refused"]), grouped(f.Answers["shed"]), grouped(other), grouped(r.lost()),
		chart.Micros(float64(r.PerOrder.Nanoseconds()) / 1e3), chart.Bytes(float64(r.PeakRSS)), fmt.Sprintf("%.2f", l.Idle),
	}
}

// page lays out a sweep.
func (s *Sweep) page() *page {
	title, label := s.Variable.axis()
	p := &page{
		Kicker: kicker("Sweep", s.Started), Title: "Cost against " + strings.ToLower(title),
		Lead:     fmt.Sprintf("%s, at %d points from %s to %s.", strings.Join(s.Targets, " and "), len(s.Points), label(s.Points[0].Value), label(s.Points[len(s.Points)-1].Value)),
		Warnings: fold(s.Warnings), Setup: s.setup(),
	}
	lost, checked := 0, false
	t := grid{Head: []string{strings.ToLower(title), "target", "sent", "accepted /s", "refused", "shed", "other", "lost", "CPU per order", "peak RSS", "others' cores", "p50", "p99"}}
	for _, pt := range s.Points {
		for _, l := range pt.Legs {
			lost += l.Report.lost()
			checked = checked || l.Report.Check != nil
			lat := l.Report.latency()
			row := append([]string{label(pt.Value), l.Target}, l.cells()...)
			t.Rows = append(t.Rows, append(row, chart.Micros(float64(lat.P50)), chart.Micros(float64(lat.P99))))
		}
	}
	switch {
	case !checked:
		p.Verdict = verdict{"open", "answers only, nothing checked"}
	case lost == 0:
		p.Verdict = verdict{"good", "nothing lost at any point"}
	default:
		p.Verdict = verdict{"bad", grouped(lost) + " accepted orders lost"}
	}
	lead := "Latency is wire to wire where a sink was, else of the answers."
	if s.Variable == VariableRate {
		p.Title, lead = "Where it saturates", "The dashed line is where everything offered is accepted. "+lead
		p.Lead = fmt.Sprintf("%d rates from %s to %s orders per second.", len(s.Points), label(s.Points[0].Value), label(s.Points[len(s.Points)-1].Value))
	}
	for _, name := range s.Targets {
		if st, ok := s.Saturation[name]; ok {
			p.Tiles = append(p.Tiles,
				tile{name + " keeps up with", chart.Number(st.Kept) + " /s", "nothing shed, nothing late"},
				tile{name + " accepts at most", chart.Number(st.Peak) + " /s", "at any rate"})
		}
	}
	p.add("sweep", "Four measures", figure{Plot: sweepPlot(s), Table: t, Lead: lead})
	return p
}

// setup is what stayed, and over which values the variable went.
func (s *Sweep) setup() [][2]string {
	_, label := s.Variable.axis()
	varied := fmt.Sprintf("%s to %s", label(s.Points[0].Value), label(s.Points[len(s.Points)-1].Value))
	row := map[Variable]string{VariableSize: rowSize, VariableConnections: rowConnections, VariableRate: rowRate}[s.Variable]
	out := s.Setup.list()
	for i := range out {
		if out[i][0] == row {
			out[i][1] = varied
		}
	}
	return out
}
